/* The best of candidate rows by their scores, which ends every search. */
#ifndef VECINDEX_BEST_H
#define VECINDEX_BEST_H

#include "_products.h"

#include <stdlib.h>

enum { AHEAD = 8 }; /* rows asked of the memory before they are scored */

typedef struct {
    const float *rows;
    Py_ssize_t dim, count;
    Product product;
} Matrix;

/* Read a matrix of rows of `dim` floats; false if its bytes are not so. */
static inline int read_matrix(Matrix *matrix, const Py_buffer *bytes, Py_ssize_t dim) {
    if (dim < 1 || dim > 1 << 20) return 0;
    Py_ssize_t row_bytes = dim * (Py_ssize_t)sizeof(float);
    *matrix = (Matrix){bytes->buf, dim, bytes->len / row_bytes, product_for(32)};
    return bytes->len % row_bytes == 0;
}

/* Unit rows are so up to rounding: a row times itself may come out as 1.0000001. */
static inline float as_score(float product) {
    return product > 1 ? 1 : product < -1 ? -1 : product;
}

static inline float score_of(const Matrix *matrix, const float *query, int64_t row) {
    const float *floats = matrix->rows + row * matrix->dim;
    return as_score(matrix->product(query, (const uint8_t *)floats, matrix->dim));
}

/* Score rows for one query, -inf for a pad or whatever else is no row. */
static inline void score_rows(const Matrix *matrix, const float *query, const int64_t *rows,
                              Py_ssize_t width, float *scores) {
    Py_ssize_t row_bytes = matrix->dim * (Py_ssize_t)sizeof(float), fetched = 0;
    for (Py_ssize_t i = 0; i < width; i++) {
        for (; fetched < width && fetched <= i + AHEAD; fetched++)
            if ((uint64_t)rows[fetched] < (uint64_t)matrix->count)
                fetch(matrix->rows + rows[fetched] * matrix->dim, row_bytes);
        scores[i] = (uint64_t)rows[i] < (uint64_t)matrix->count
                        ? score_of(matrix, query, rows[i])
                        : -INFINITY;
    }
}

/* Put a row among the best `k`: falling scores, ties by row number, none twice. */
static inline void keep(float *scores, int64_t *rows, int32_t *places, Py_ssize_t k, float score,
                        int64_t row, Py_ssize_t from) {
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
    if (places == NULL) return;
    memmove(places + place + 1, places + place, behind * sizeof(int32_t));
    places[place] = (int32_t)from;
}

/* Find the best `k` of scored rows, and their places among them; -inf and -1 for pads. */
static inline void choose_best(const float *scores, const int64_t *rows, Py_ssize_t width,
                               Py_ssize_t k, float *best_scores, int64_t *best_rows,
                               int32_t *places) {
    for (Py_ssize_t i = 0; i < k; i++) best_scores[i] = -INFINITY, best_rows[i] = -1;
    for (Py_ssize_t i = 0; places != NULL && i < k; i++) places[i] = -1;
    for (Py_ssize_t i = 0; i < width; i++)
        keep(best_scores, best_rows, places, k, scores[i], rows[i], i);
}

/* How a search of many queries ends: its candidates are scored, and the best `k` are written. */
typedef struct {
    Matrix matrix;
    const float *queries;
    Py_ssize_t slots, k; /* candidates of each query; how many of them are kept */
    int64_t *found;      /* one query's candidates: to be filled before `end` */
    float *found_scores;
    float *scores;
    int64_t *rows;
    const uint8_t *alive; /* which rows may be returned, unless it is NULL */
    Py_ssize_t known;     /* rows that it says something of; others may not be returned */
    int32_t *counts;      /* how many candidates there were, and how many of them alive */
    int32_t *places;      /* of those returned among the candidates, unless it is NULL */
} Ending;

/* The buffers of a call that searches and scores, in the order of its last arguments. */
typedef struct {
    Py_buffer queries, matrix, alive, scores, rows, counts, places;
} Buffers;

static inline void release(Buffers *of) {
    Py_buffer *held[] = {&of->queries, &of->matrix, &of->alive, &of->scores,
                         &of->rows,    &of->counts, &of->places};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++) PyBuffer_Release(held[i]);
}

/* Set an ending up; false, with an exception, if its arrays do not fit. `finish` it all the same. */
static inline int begin(Ending *ending, const Buffers *of, Py_ssize_t dim, Py_ssize_t asked,
                        Py_ssize_t slots) {
    Py_ssize_t cells = of->rows.len / (Py_ssize_t)sizeof(int64_t), number = sizeof(int32_t);
    Py_ssize_t k = asked > 0 ? cells / asked : 1;
    *ending = (Ending){.queries = of->queries.buf, .slots = slots, .k = k, .scores = of->scores.buf,
                       .rows = of->rows.buf, .counts = of->counts.buf};
    if (of->alive.len) ending->alive = of->alive.buf, ending->known = of->alive.len;
    if (of->places.len) ending->places = of->places.buf;
    if (!read_matrix(&ending->matrix, &of->matrix, dim) || slots < 1 ||
        slots > PY_SSIZE_T_MAX / 64 || k < 1 ||
        of->queries.len != asked * dim * (Py_ssize_t)sizeof(float) ||
        of->rows.len != asked * k * (Py_ssize_t)sizeof(int64_t) ||
        of->scores.len != asked * k * (Py_ssize_t)sizeof(float) ||
        of->counts.len != 2 * asked * number ||
        (of->places.len && of->places.len != asked * k * number)) {
        PyErr_SetString(PyExc_ValueError, "matrix, queries, scores and rows do not fit each other");
        return 0;
    }
    ending->found = malloc((size_t)slots * sizeof(int64_t));
    ending->found_scores = malloc((size_t)slots * sizeof(float));
    if (ending->found != NULL && ending->found_scores != NULL) return 1;
    PyErr_NoMemory();
    return 0;
}

/* Drop candidates that are not alive, and count. */
static inline void drop(const Ending *ending, Py_ssize_t query) {
    int32_t named = 0, kept = 0;
    for (Py_ssize_t i = 0; i < ending->slots; i++) {
        int64_t row = ending->found[i];
        if (row < 0) continue;
        named++;
        if (ending->alive != NULL && (row >= ending->known || !ending->alive[row]))
            ending->found[i] = -1;
        else
            kept++;
    }
    ending->counts[2 * query] = named;
    ending->counts[2 * query + 1] = kept;
}

static inline void end(const Ending *ending, Py_ssize_t query) {
    const float *asked = ending->queries + query * ending->matrix.dim;
    Py_ssize_t first = query * ending->k;
    drop(ending, query);
    score_rows(&ending->matrix, asked, ending->found, ending->slots, ending->found_scores);
    choose_best(ending->found_scores, ending->found, ending->slots, ending->k,
                ending->scores + first, ending->rows + first,
                ending->places == NULL ? NULL : ending->places + first);
}

static inline void finish(Ending *ending) {
    free(ending->found);
    free(ending->found_scores);
}

#endif
