/* Products of a query with a row, or with a row's codes; greater is nearer.
 *
 * Each in plain C, and for processors that have AVX2 in its instructions; which one is taken is
 * decided once. A product depends on nothing but the two vectors: not on where they stand.
 */
#ifndef VECINDEX_PRODUCTS_H
#define VECINDEX_PRODUCTS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(PLAIN) /* clang says GNUC, too */
#define X86 1
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
#endif

#ifdef __GNUC__
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

enum { LINE = 64, BLOCK = 64 }; /* bytes of a cache line; dimensions of a block of 4-bit codes */

/* Ask the memory for bytes, at least one, that will be needed soon. */
static inline void fetch(const void *start, Py_ssize_t bytes) {
    const char *first = start;
    for (Py_ssize_t i = 0; i < bytes; i += LINE) PREFETCH(first + i);
    PREFETCH(first + bytes - 1); /* few arrays begin where a line does */
}

typedef float (*Product)(const void *query, const uint8_t *codes, Py_ssize_t dim);

enum { LANES = 8 }; /* sums that a compiler may keep in one register, and add up at the end */

/* Add products as long as all lanes are filled. */
static inline Py_ssize_t run_float32(const float *a, const float *b, Py_ssize_t i, Py_ssize_t end,
                                     float *restrict sums) {
    for (; i + LANES <= end; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
    return i;
}

static inline float added_lanes(float sum, const float *sums) {
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* Finish a product that has been made up to dimension `i`. */
static inline float end_float32(const float *a, const float *b, Py_ssize_t i, Py_ssize_t dim,
                                float *sums) {
    float sum = 0;
    for (i = run_float32(a, b, i, dim, sums); i < dim; i++) sum += a[i] * b[i];
    return added_lanes(sum, sums);
}

static inline float product_float32(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    float sums[LANES] = {0};
    return end_float32(query, (const float *)codes, 0, dim, sums);
}

enum { STRIDE = 32 }; /* dimensions, whole lanes in all instructions */

/* Which rows may be left after their first dimensions. */
typedef struct {
    Py_ssize_t first; /* so many, whole strides */
    float apart;      /* the squared length of the query's other dimensions */
    float least;      /* products below this are not wanted */
    float left;       /* the squared length of the row's others, or more; -1 if not known yet */
} Bound;

/* The greatest squared length of a row: 1e-3 is what the index of a stranger may have too much. */
#define LONGEST 1.002f

static inline void know(Bound *bound, float squares) {
    bound->left = squares < LONGEST ? LONGEST - squares : 0;
}

/* Whether a row can reach the least product: by Cauchy and Schwarz, what its other dimensions add
 * is at most their length times that of the query's. */
static inline int within(const Bound *bound, float product, Py_ssize_t dim) {
    float rounding = (float)(dim + 1) * 0x1p-23f; /* of both products, summed in any order */
    float missing = bound->least - product - rounding;
    return missing <= 0 || missing * missing <= bound->left * bound->apart;
}

typedef float (*BoundedProduct)(const float *query, const float *row, Py_ssize_t dim, Bound *bound);

/* The product of float32, to the last bit, or -inf if it is less than the least one wanted. */
static inline float bounded_float32(const float *a, const float *b, Py_ssize_t dim, Bound *bound) {
    float sums[LANES] = {0}, squares[LANES] = {0};
    run_float32(a, b, 0, bound->first, sums);
    if (bound->left < 0) {
        run_float32(b, b, 0, bound->first, squares);
        know(bound, added_lanes(0, squares));
    }
    if (!within(bound, added_lanes(0, sums), dim)) return -INFINITY;
    return end_float32(a, b, bound->first, dim, sums);
}

static inline float product_sq8(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    const int16_t *weights = query;
    int32_t sum = 0;
    for (Py_ssize_t i = 0; i < dim; i++) sum += weights[i] * codes[i];
    return (float)sum;
}

/* A byte has two dimensions, the first in its low half. The weights of a block stand in the order
 * in which 32 bytes give them: those of the low halves, then those of the high ones. */
static inline int32_t rest_sq4(const int8_t *weights, const uint8_t *codes, Py_ssize_t bytes) {
    int32_t sum = 0;
    for (Py_ssize_t i = 0; i < bytes; i++)
        sum += weights[i] * (codes[i] & 15) + weights[i + BLOCK / 2] * (codes[i] >> 4);
    return sum;
}

static inline float product_sq4(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    const int8_t *weights = query;
    int32_t sum = 0;
    for (; dim > 0; dim -= BLOCK, weights += BLOCK, codes += BLOCK / 2)
        sum += rest_sq4(weights, codes, dim < BLOCK ? (dim + 1) / 2 : BLOCK / 2);
    return (float)sum;
}

#ifdef X86
AVX2 static inline float added_float(__m256 sums) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

AVX2 static inline int32_t added_int(__m256i sums) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

/* Four sums at a time: each waits for the one before it, not for the others. */
AVX2 static inline Py_ssize_t avx2_run(const float *a, const float *b, Py_ssize_t i, Py_ssize_t end,
                                       __m256 *sums, __m256 *squares) {
    for (; i + STRIDE <= end; i += STRIDE)
        for (int j = 0; j < 4; j++) {
            __m256 row = _mm256_loadu_ps(b + i + 8 * j);
            sums[j] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), row, sums[j]);
            if (squares != NULL) squares[j] = _mm256_fmadd_ps(row, row, squares[j]);
        }
    return i;
}

AVX2 static inline float avx2_added(const __m256 *sums) {
    return added_float(
        _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])));
}

AVX2 static inline float avx2_end(const float *a, const float *b, Py_ssize_t i, Py_ssize_t dim,
                                  __m256 *sums) {
    float sum = 0;
    for (i = avx2_run(a, b, i, dim, sums, NULL); i + 8 <= dim; i += 8)
        sums[0] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sums[0]);
    for (; i < dim; i++) sum += a[i] * b[i];
    return sum + avx2_added(sums);
}

AVX2 static inline float avx2_float32(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    __m256 zero = _mm256_setzero_ps(), sums[] = {zero, zero, zero, zero};
    return avx2_end(query, (const float *)codes, 0, dim, sums);
}

AVX2 static inline float avx2_bounded(const float *a, const float *b, Py_ssize_t dim,
                                      Bound *bound) {
    __m256 zero = _mm256_setzero_ps(), sums[] = {zero, zero, zero, zero};
    if (bound->left < 0) {
        __m256 squares[] = {zero, zero, zero, zero};
        avx2_run(a, b, 0, bound->first, sums, squares);
        know(bound, avx2_added(squares));
    } else {
        avx2_run(a, b, 0, bound->first, sums, NULL);
    }
    if (!within(bound, avx2_added(sums), dim)) return -INFINITY;
    return avx2_end(a, b, bound->first, dim, sums);
}

AVX2 static inline float avx2_sq8(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    const int16_t *weights = query;
    __m256i sums = _mm256_setzero_si256();
    Py_ssize_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m256i row = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(codes + i)));
        __m256i asked = _mm256_loadu_si256((const __m256i *)(weights + i));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(asked, row));
    }
    return (float)added_int(sums) + product_sq8(weights + i, codes + i, dim - i);
}

AVX2 static inline float avx2_sq4(const void *query, const uint8_t *codes, Py_ssize_t dim) {
    const int8_t *weights = query;
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    __m256i sums = _mm256_setzero_si256();
    for (; dim >= BLOCK; dim -= BLOCK, weights += BLOCK, codes += BLOCK / 2) {
        __m256i pairs = _mm256_loadu_si256((const __m256i *)codes);
        __m256i first = _mm256_and_si256(pairs, low);
        __m256i second = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
        /* At most 4 * 15 * 127 in 16 bits. */
        __m256i both = _mm256_add_epi16(
            _mm256_maddubs_epi16(first, _mm256_loadu_si256((const __m256i *)weights)),
            _mm256_maddubs_epi16(second, _mm256_loadu_si256((const __m256i *)(weights + 32))));
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(both, ones));
    }
    return (float)(added_int(sums) + rest_sq4(weights, codes, (dim + 1) / 2));
}
#endif

/* Write what a step of one in each dimension's codes means for the product, in whole parts of the
 * greatest: int16 for 8 bits, int8 for 4, in the order that the products want. */
static inline void weigh(const float *query, const float *scales, Py_ssize_t dim, int bits,
                         void *weights) {
    float most = 0, limit = INT8_MAX;
    if (bits == 8) { /* the sum of all products must fit 31 bits */
        limit = (float)(INT32_MAX / UINT8_MAX / dim);
        if (limit > INT16_MAX) limit = INT16_MAX;
    }
    for (Py_ssize_t i = 0; i < dim; i++) {
        float size = fabsf(query[i] * scales[i]);
        most = size > most ? size : most;
    }
    float factor = most > 0 ? limit / most : 0;
    int8_t *bytes = weights;
    int16_t *words = weights;
    for (Py_ssize_t i = 0; i < dim; i++) {
        long weight = lrintf(query[i] * scales[i] * factor);
        if (bits == 8)
            words[i] = (int16_t)weight;
        else
            bytes[i / BLOCK * BLOCK + i % BLOCK / 2 + i % 2 * (BLOCK / 2)] = (int8_t)weight;
    }
}

#ifdef X86
static inline int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static inline BoundedProduct bounded_product(void) {
#ifdef X86
    if (has_avx2()) return avx2_bounded;
#endif
    return bounded_float32;
}

/* `bits` of a dimension: 32, 16, 8 or 4. */
static inline Product product_for(int bits) {
#ifdef X86
    if (has_avx2())
        return bits == 32 ? avx2_float32 : bits == 8 ? avx2_sq8 : avx2_sq4;
#endif
    return bits == 32 ? product_float32 : bits == 8 ? product_sq8 : product_sq4;
}

#endif
