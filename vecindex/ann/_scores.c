/* Scores of candidate rows, and the best of them. */
#include "_best.h"

enum { SHORT = 256 }; /* rows whose scoring keeps the interpreter */

PyDoc_STRVAR(score_doc, "score(matrix, queries, rows, dim, scores)\n--\n\n"
                        "Write the score of each query with each of its rows, -inf for pads.");

static PyObject *score(PyObject *module, PyObject *args) {
    Py_buffer matrix, queries, rows, scores;
    Py_ssize_t dim;
    Matrix of;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*nw*", &matrix, &queries, &rows, &dim, &scores)) return NULL;
    int fits = read_matrix(&of, &matrix, dim);
    if (fits) {
        Py_ssize_t asked = queries.len / (dim * (Py_ssize_t)sizeof(float));
        Py_ssize_t cells = rows.len / (Py_ssize_t)sizeof(int64_t), width = asked ? cells / asked : 0;
        fits = queries.len == asked * dim * (Py_ssize_t)sizeof(float) && asked * width == cells &&
               scores.len == cells * (Py_ssize_t)sizeof(float);
        if (fits) {
            /* Whoever gives the interpreter up may wait for it: not for the microseconds that rows in
             * memory take. */
            PyThreadState *state = cells > SHORT ? PyEval_SaveThread() : NULL;
            for (Py_ssize_t i = 0; i < asked; i++)
                score_rows(&of, (const float *)queries.buf + i * dim,
                           (const int64_t *)rows.buf + i * width, width,
                           (float *)scores.buf + i * width);
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
    for (Py_ssize_t i = 0; fits && i < asked; i++)
        choose_best((const float *)scores.buf + i * width, (const int64_t *)rows.buf + i * width,
                    width, k, (float *)best_scores.buf + i * k, (int64_t *)best_rows.buf + i * k,
                    NULL);
    PyBuffer_Release(&scores);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&best_scores);
    PyBuffer_Release(&best_rows);
    if (fits) return Py_NewRef(Py_None);
    PyErr_SetString(PyExc_ValueError, "scores, rows and k do not fit each other");
    return NULL;
}

PyDoc_STRVAR(nearest_doc, "nearest(matrix, queries, dim, alive, k, best_scores, best_rows)\n--\n\n"
                          "Write the k best of all rows that are alive for each query.");

enum { LOOKED_UP = 24 }; /* rows that are asked for before they are read */

/* Each row is read once for all queries. Processors ask for the rows that follow by themselves, but
 * only up to the end of a page; the address of the next one has to be looked up first, which takes
 * a third of the time if nobody asked for it before. */
static void find_nearest(const Matrix *matrix, const float *queries, Py_ssize_t asked,
                         const uint8_t *alive, Py_ssize_t k, float *scores, int64_t *rows) {
    Py_ssize_t dim = matrix->dim;
    for (Py_ssize_t i = 0; i < asked * k; i++) scores[i] = -INFINITY, rows[i] = -1;
    for (Py_ssize_t row = 0; row < matrix->count; row++) {
        if (row + LOOKED_UP < matrix->count) PREFETCH(matrix->rows + (row + LOOKED_UP) * dim);
        if (alive != NULL && !alive[row]) continue;
        for (Py_ssize_t i = 0; i < asked; i++)
            keep(scores + i * k, rows + i * k, NULL, k, score_of(matrix, queries + i * dim, row),
                 row, 0);
    }
}

static PyObject *nearest(PyObject *module, PyObject *args) {
    Py_buffer matrix, queries, alive, scores, rows;
    Py_ssize_t dim, k;
    Matrix of;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*ny*nw*w*", &matrix, &queries, &dim, &alive, &k, &scores, &rows))
        return NULL;
    int fits = k > 0 && read_matrix(&of, &matrix, dim);
    if (fits) {
        Py_ssize_t asked = queries.len / (dim * (Py_ssize_t)sizeof(float));
        Py_ssize_t cells = rows.len / (Py_ssize_t)sizeof(int64_t);
        fits = queries.len == asked * dim * (Py_ssize_t)sizeof(float) &&
               (alive.len == 0 || alive.len == of.count) && cells / k == asked && cells % k == 0 &&
               scores.len == cells * (Py_ssize_t)sizeof(float) &&
               rows.len == cells * (Py_ssize_t)sizeof(int64_t);
        if (fits) {
            Py_BEGIN_ALLOW_THREADS;
            find_nearest(&of, queries.buf, asked, alive.len ? alive.buf : NULL, k, scores.buf,
                         rows.buf);
            Py_END_ALLOW_THREADS;
        }
    }
    PyBuffer_Release(&matrix);
    PyBuffer_Release(&queries);
    PyBuffer_Release(&alive);
    PyBuffer_Release(&scores);
    PyBuffer_Release(&rows);
    if (fits) return Py_NewRef(Py_None);
    PyErr_SetString(PyExc_ValueError, "matrix, queries, alive, scores and rows do not fit each other");
    return NULL;
}

static PyMethodDef methods[] = {
    {"nearest", nearest, METH_VARARGS, nearest_doc},
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
