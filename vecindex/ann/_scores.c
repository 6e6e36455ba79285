/* Scores of candidate rows, and the best of them: what ends every search. */
#include "_products.h"

enum { AHEAD = 8, SHORT = 512 }; /* rows asked for early; rows whose scoring keeps the interpreter */

typedef struct {
    const float *matrix, *queries;
    const int64_t *rows;
    Py_ssize_t dim, count, asked, width; /* rows of the matrix; queries; candidates of each */
    Product product;
} Task;

static const uint8_t *row_of(const Task *task, int64_t row) {
    return (const uint8_t *)(task->matrix + row * task->dim);
}

static void score_all(const Task *task, float *scores) {
    Py_ssize_t row_bytes = task->dim * (Py_ssize_t)sizeof(float), fetched = 0;
    Py_ssize_t cells = task->asked * task->width;
    for (Py_ssize_t i = 0; i < cells; i++) {
        for (; fetched < cells && fetched <= i + AHEAD; fetched++)
            if ((uint64_t)task->rows[fetched] < (uint64_t)task->count)
                fetch(row_of(task, task->rows[fetched]), row_bytes);
        scores[i] = -INFINITY; /* for a pad */
        if ((uint64_t)task->rows[i] >= (uint64_t)task->count) continue;
        const float *query = task->queries + i / task->width * task->dim;
        scores[i] = task->product(query, row_of(task, task->rows[i]), task->dim);
        /* Unit rows are so up to rounding: a row times itself may come out as 1.0000001. */
        scores[i] = scores[i] > 1 ? 1 : scores[i] < -1 ? -1 : scores[i];
    }
}

PyDoc_STRVAR(score_doc, "score(matrix, queries, rows, dim, scores)\n--\n\n"
                        "Write the score of each query with each of its rows, -inf for pads.");

static PyObject *score(PyObject *module, PyObject *args) {
    Py_buffer matrix, queries, rows, scores;
    Task task;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*nw*", &matrix, &queries, &rows, &task.dim, &scores))
        return NULL;
    int fits = task.dim > 0 && task.dim <= 1 << 20;
    if (fits) {
        Py_ssize_t row_bytes = task.dim * (Py_ssize_t)sizeof(float);
        Py_ssize_t cells = rows.len / (Py_ssize_t)sizeof(int64_t);
        task.matrix = matrix.buf, task.queries = queries.buf, task.rows = rows.buf;
        task.count = matrix.len / row_bytes, task.asked = queries.len / row_bytes;
        task.width = task.asked ? cells / task.asked : 0;
        task.product = product_for(32);
        fits = matrix.len % row_bytes == 0 && queries.len % row_bytes == 0 &&
               task.asked * task.width == cells && scores.len == cells * (Py_ssize_t)sizeof(float);
        if (fits) {
            /* Whoever gives the interpreter up may wait for it: not for some microseconds. */
            PyThreadState *state = cells > SHORT ? PyEval_SaveThread() : NULL;
            score_all(&task, scores.buf);
            if (state != NULL) PyEval_RestoreThread(state);
        }
    }
    PyBuffer_Release(&matrix);
    PyBuffer_Release(&queries);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&scores);
    if (fits) return Py_NewRef(Py_None);
    PyErr_SetString(PyExc_ValueError, "queries, rows and scores do not fit each other");
    return NULL;
}

/* Put a row among the best `k`: falling scores, ties by row number, none twice. */
static void keep(float *scores, int64_t *rows, Py_ssize_t k, float score, int64_t row) {
    if (row < 0 || !(score >= scores[k - 1])) return;
    Py_ssize_t place = k;
    while (place > 0 && (score > scores[place - 1] ||
                         (score == scores[place - 1] &&
                          (row < rows[place - 1] || rows[place - 1] < 0))))
        place--;
    if (place == k || (place > 0 && row == rows[place - 1])) return;
    size_t behind = (size_t)(k - 1 - place);
    memmove(scores + place + 1, scores + place, behind * sizeof(float));
    memmove(rows + place + 1, rows + place, behind * sizeof(int64_t));
    scores[place] = score;
    rows[place] = row;
}

PyDoc_STRVAR(top_doc, "top(scores, rows, k, best_scores, best_rows)\n--\n\n"
                      "Write the k best of each query's rows, best first, -inf and -1 for pads.");

static PyObject *top(PyObject *module, PyObject *args) {
    Py_buffer scores, rows, best_scores, best_rows;
    Py_ssize_t k;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*nw*w*", &scores, &rows, &k, &best_scores, &best_rows))
        return NULL;
    Py_ssize_t cells = rows.len / (Py_ssize_t)sizeof(int64_t);
    Py_ssize_t best = best_rows.len / (Py_ssize_t)sizeof(int64_t);
    Py_ssize_t asked = k > 0 ? best / k : 0, width = asked ? cells / asked : 0;
    int fits = asked * k == best && asked * width == cells &&
               scores.len == cells * (Py_ssize_t)sizeof(float) &&
               best_scores.len == best * (Py_ssize_t)sizeof(float);
    for (Py_ssize_t i = 0; fits && i < asked; i++) {
        float *kept_scores = (float *)best_scores.buf + i * k;
        int64_t *kept_rows = (int64_t *)best_rows.buf + i * k;
        for (Py_ssize_t j = 0; j < k; j++) kept_scores[j] = -INFINITY, kept_rows[j] = -1;
        for (Py_ssize_t j = i * width; j < (i + 1) * width; j++)
            keep(kept_scores, kept_rows, k, ((const float *)scores.buf)[j],
                 ((const int64_t *)rows.buf)[j]);
    }
    PyBuffer_Release(&scores);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&best_scores);
    PyBuffer_Release(&best_rows);
    if (fits) return Py_NewRef(Py_None);
    PyErr_SetString(PyExc_ValueError, "scores, rows and k do not fit each other");
    return NULL;
}

static PyMethodDef methods[] = {
    {"score", score, METH_VARARGS, score_doc},
    {"top", top, METH_VARARGS, top_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "vecindex.ann._scores",
    .m_doc = "Scores of candidate rows, and the best of them.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__scores(void) { return PyModuleDef_Init(&module_def); }
