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

enum {
    STRIP = 256, /* rows after which it is decided anew how far to read */
    GROUP = 32,  /* queries for which each row is read once */
    LONG = 128   /* dimensions: shorter rows are read to their end sooner than looked at twice */
};

/* Score rows for some queries; return how many products were made to their end. `ahead` of the
 * numbers, `count` or more, are known: those to follow are asked of the memory. The rows are read
 * up to dimension `first`, if it is not 0, and further where they could be among the best. */
static Py_ssize_t scan_strip(const Matrix *matrix, const float *queries, Py_ssize_t asked,
                             const int64_t *numbers, Py_ssize_t count, Py_ssize_t ahead,
                             Py_ssize_t first, Py_ssize_t k, float *scores, int64_t *rows) {
    BoundedProduct product = bounded_product();
    Py_ssize_t dim = matrix->dim, made = 0;
    Py_ssize_t bytes = (first ? first : dim) * (Py_ssize_t)sizeof(float);
    float apart[GROUP];
    for (Py_ssize_t i = 0; i < asked; i++) {
        double squares = 0;
        for (Py_ssize_t j = i * dim + first; j < (i + 1) * dim; j++)
            squares += (double)queries[j] * queries[j];
        apart[i] = (float)squares;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        if (number + AHEAD < ahead)
            fetch(matrix->rows + numbers[number + AHEAD] * dim, bytes);
        Bound bound = {.first = first, .left = -1};
        for (Py_ssize_t i = 0; i < asked; i++) {
            bound.apart = apart[i], bound.least = scores[i * k + k - 1];
            const float *query = queries + i * dim, *row = matrix->rows + numbers[number] * dim;
            float found = first ? product(query, row, dim, &bound)
                                : matrix->product(query, (const uint8_t *)row, dim);
            if (found == -INFINITY) continue;
            made++;
            keep(scores + i * k, rows + i * k, NULL, k, as_score(found), numbers[number], 0);
        }
    }
    return made;
}

/* What a scan costs is to read the rows from memory, and most of them need not be read to their
 * end to know that they are not among the best. How far, is found out on the way: if many products
 * are made to their end, the next strip is read further, and if hardly any are, less far. */
static void find_nearest(const Matrix *matrix, const float *queries, Py_ssize_t asked,
                         const uint8_t *alive, Py_ssize_t k, float *scores, int64_t *rows) {
    int64_t numbers[STRIP + AHEAD];
    Py_ssize_t most = matrix->dim < LONG ? 0 : matrix->dim / STRIDE * STRIDE;
    Py_ssize_t first = most, known = 0, next = 0;
    for (Py_ssize_t i = 0; i < asked * k; i++) scores[i] = -INFINITY, rows[i] = -1;
    for (;;) {
        for (; next < matrix->count && known < STRIP + AHEAD; next++)
            if (alive == NULL || alive[next]) numbers[known++] = next;
        if (known == 0) return;
        Py_ssize_t count = known < STRIP ? known : STRIP;
        Py_ssize_t made = scan_strip(matrix, queries, asked, numbers, count, known, first, k,
                                     scores, rows);
        if (made > count * asked / 4 && first < most) first += STRIDE;
        if (made < count * asked / 16 && first > STRIDE) first -= STRIDE;
        known -= count;
        memmove(numbers, numbers + count, (size_t)known * sizeof(*numbers));
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
            for (Py_ssize_t i = 0; i < asked; i += GROUP)
                find_nearest(&of, (const float *)queries.buf + i * dim,
                             asked - i < GROUP ? asked - i : GROUP, alive.len ? alive.buf : NULL, k,
                             (float *)scores.buf + i * k, (int64_t *)rows.buf + i * k);
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
