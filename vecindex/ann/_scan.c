/* A scan of 4-bit codes, packed in blocks as FAISS packs them, of all rows or of some lists.
 *
 * FAISS makes words, codes, lists and blocks. What its scan costs beyond reading the codes is what
 * it does for each list and each call; here a query is one call, with one table of products for all
 * lists and one threshold, which rises while they are scanned.
 *
 * André, Kermarrec and Le Scouarnec, "Quicker ADC: unlocking the hidden potential of product
 * quantization with SIMD", 2019: products of 8 bits, looked up in registers. Of many quantizers, whose
 * errors even out, only 6 bits are used: four pairs add up before sums of 16 bits are needed.
 */
#include "_best.h"

#ifdef X86

#define ALWAYS static inline __attribute__((always_inline))

enum { WORDS = 16, LANE = 32, HALF = LANE / 2, LANES_AT_ONCE = 2, AT_ONCE = LANES_AT_ONCE * LANE };
enum { PARTS = AT_ONCE / HALF, MANY = 64, TOGETHER = 4 };

typedef struct {
    PyObject_HEAD
    Py_buffer words;     /* float32: quantizer, dimension, word */
    Py_buffer centroids; /* uint8: list, dimension; empty if there is one list */
    Py_buffer scales;    /* float32: what a step of one means in each dimension of the centroids */
    Py_buffer codes;     /* uint64: the address of each list's blocks */
    Py_buffer ids;       /* uint64: the address of each list's row numbers, int64; 0: places */
    Py_buffer sizes;     /* int64: rows of each list */
    Py_ssize_t dim, quantizers, block_rows, lists;
} Lists;

/* -- the best so far ---------------------------------------------------------------------------- */

/* Keys fall from better to worse: a sum or score above, where it was found below. */
typedef struct {
    uint64_t *keys;
    Py_ssize_t count, wanted, room;
    int32_t threshold; /* sums up to it are of no use; -1: none yet */
} Best;

static void swap(uint64_t *a, uint64_t *b) {
    uint64_t kept = *a;
    *a = *b, *b = kept;
}

/* Put keys not below a pivot before those not above it; return where the second part begins. */
static Py_ssize_t split(uint64_t *keys, Py_ssize_t count) {
    uint64_t pivot = keys[count / 2];
    Py_ssize_t i = 0, j = count - 1;
    while (i <= j) {
        while (keys[i] > pivot) i++;
        while (keys[j] < pivot) j--;
        if (i <= j) swap(keys + i++, keys + j--);
    }
    return i;
}

/* Bring the `wanted` greatest to the front, in any order. */
static void choose(uint64_t *keys, Py_ssize_t count, Py_ssize_t wanted) {
    while (count > 1 && wanted > 0 && wanted < count) {
        Py_ssize_t second = split(keys, count);
        if (wanted < second) {
            if (second == count) second--; /* the pivot itself stands last */
            count = second;
        } else {
            keys += second, count -= second, wanted -= second;
        }
    }
}

static void sort(uint64_t *keys, Py_ssize_t count) {
    while (count > 12) {
        Py_ssize_t second = split(keys, count);
        if (second == count) second--;
        if (second < count - second) { /* the smaller part first: no deep recursion */
            sort(keys, second);
            keys += second, count -= second;
        } else {
            sort(keys + second, count - second);
            count = second;
        }
    }
    for (Py_ssize_t i = 1; i < count; i++) {
        uint64_t key = keys[i];
        Py_ssize_t j = i;
        for (; j > 0 && keys[j - 1] < key; j--) keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

static void put(Best *best, uint64_t key) {
    best->keys[best->count++] = key;
    if (best->count < best->room) return;
    choose(best->keys, best->count, best->wanted);
    best->count = best->wanted;
    uint64_t least = best->keys[0];
    for (Py_ssize_t i = 1; i < best->count; i++)
        if (best->keys[i] < least) least = best->keys[i];
    best->threshold = (int32_t)(least >> 48);
}

/* -- one list ----------------------------------------------------------------------------------- */

enum { PLACES = 48 }; /* bits of a key that say where */

static uint64_t key_of(uint32_t sum, Py_ssize_t visit, Py_ssize_t place) {
    uint64_t where = (uint64_t)visit << 32 | (uint64_t)place; /* earlier ones are better */
    return (uint64_t)sum << PLACES | (((UINT64_C(1) << PLACES) - 1) - where);
}

AVX2 static inline __m256i halves_added(__m256i even, __m256i odd) {
    /* Either half has the sums of every second quantizer. */
    __m128i first = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    __m128i second = _mm_add_epi16(_mm256_castsi256_si128(odd), _mm256_extracti128_si256(odd, 1));
    return _mm256_set_m128i(second, first);
}

/* Add the products of some pairs of quantizers, for all rows of two lanes, in bytes. */
AVX2 ALWAYS void add_pairs(const uint8_t *codes, Py_ssize_t stride, const uint8_t *tables,
                           Py_ssize_t pairs, __m256i bytes[PARTS]) {
    const __m256i low = _mm256_set1_epi8(15);
    for (Py_ssize_t i = 0; i < pairs; i++) {
        __m256i table = _mm256_loadu_si256((const __m256i *)(tables + i * LANE));
        for (int lane = 0; lane < LANES_AT_ONCE; lane++) {
            const uint8_t *packed = codes + i * stride + lane * LANE;
            __m256i both = _mm256_loadu_si256((const __m256i *)packed);
            __m256i first = _mm256_and_si256(both, low);
            __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
            __m256i *sums = bytes + 2 * lane;
            sums[0] = _mm256_add_epi8(sums[0], _mm256_shuffle_epi8(table, first));
            sums[1] = _mm256_add_epi8(sums[1], _mm256_shuffle_epi8(table, second));
        }
    }
}

/* Add up the products of the rows of two lanes, in the order of the rows. */
AVX2 ALWAYS void add_up(const uint8_t *codes, Py_ssize_t stride, const uint8_t *tables,
                        Py_ssize_t pairs, Py_ssize_t together, __m256i sums[PARTS]) {
    const __m256i byte = _mm256_set1_epi16(255), zero = _mm256_setzero_si256();
    __m256i even[PARTS], odd[PARTS], bytes[PARTS];
    for (int part = 0; part < PARTS; part++) even[part] = odd[part] = zero;
    while (pairs > 0) {
        for (int part = 0; part < PARTS; part++) bytes[part] = zero;
        if (pairs >= together) /* a number that is known can be unrolled */
            add_pairs(codes, stride, tables, together, bytes);
        else
            add_pairs(codes, stride, tables, pairs, bytes);
        for (int part = 0; part < PARTS; part++) {
            even[part] = _mm256_add_epi16(even[part], _mm256_and_si256(bytes[part], byte));
            odd[part] = _mm256_add_epi16(odd[part], _mm256_srli_epi16(bytes[part], 8));
        }
        pairs -= together, codes += together * stride, tables += together * LANE;
    }
    for (int part = 0; part < PARTS; part++) sums[part] = halves_added(even[part], odd[part]);
}

AVX2 ALWAYS void scan_list(const uint8_t *codes, Py_ssize_t size, Py_ssize_t block_rows,
                           const uint8_t *tables, Py_ssize_t pairs, Py_ssize_t together,
                           Py_ssize_t visit, Best *best) {
    for (Py_ssize_t start = 0; start < size; start += AT_ONCE) {
        const uint8_t *block = codes + start / block_rows * block_rows * pairs;
        __m256i sums[PARTS];
        add_up(block + start % block_rows, block_rows, tables, pairs, together, sums);
        for (int part = 0; part < PARTS; part++) {
            Py_ssize_t first = start + part * HALF;
            uint32_t good = UINT32_MAX; /* two bits a row */
            if (best->threshold >= 0) {
                __m256i limit = _mm256_set1_epi16((short)best->threshold);
                __m256i over = _mm256_subs_epu16(sums[part], limit);
                __m256i none = _mm256_cmpeq_epi16(over, _mm256_setzero_si256());
                good = ~(uint32_t)_mm256_movemask_epi8(none);
            }
            if (first + HALF > size)
                good &= first < size ? (UINT32_C(1) << (2 * (size - first))) - 1 : 0;
            if (!good) continue;
            uint16_t values[HALF];
            _mm256_storeu_si256((__m256i *)values, sums[part]);
            for (; good; good &= good - 1, good &= good - 1) {
                int row = __builtin_ctz(good) / 2;
                if (values[row] > best->threshold) put(best, key_of(values[row], visit, first + row));
            }
        }
    }
}

/* -- one query ---------------------------------------------------------------------------------- */

typedef struct {
    float *products; /* of the query with all words */
    uint8_t *tables;
    uint64_t *visits; /* keys of lists, then of those to visit */
    int16_t *weights; /* of the query, for the centroids' codes */
    Best best;
} Room;

AVX2 static void multiply(const Lists *lists, const float *query, float *products) {
    const float *words = lists->words.buf;
    Py_ssize_t dims = lists->dim / lists->quantizers;
    for (Py_ssize_t m = 0; m < lists->quantizers; m++, products += WORDS) {
        __m256 first = _mm256_setzero_ps(), second = first;
        for (Py_ssize_t i = 0; i < dims; i++, words += WORDS) {
            __m256 value = _mm256_set1_ps(*query++);
            first = _mm256_fmadd_ps(value, _mm256_loadu_ps(words), first);
            second = _mm256_fmadd_ps(value, _mm256_loadu_ps(words + 8), second);
        }
        _mm256_storeu_ps(products, first);
        _mm256_storeu_ps(products + 8, second);
    }
}

static Py_ssize_t together(const Lists *lists) {
    return lists->quantizers < MANY ? 1 : TOGETHER;
}

/* Return the least or the greatest of a quantizer's products, in every place. */
AVX2 static inline __m256 extreme(__m256 first, __m256 second, int greatest) {
    __m256 best = greatest ? _mm256_max_ps(first, second) : _mm256_min_ps(first, second);
    for (int step = 0; step < 3; step++) {
        __m256 other = step == 0   ? _mm256_permute2f128_ps(best, best, 1)
                       : step == 1 ? _mm256_shuffle_ps(best, best, 0x4e)
                                   : _mm256_shuffle_ps(best, best, 0xb1);
        best = greatest ? _mm256_max_ps(best, other) : _mm256_min_ps(best, other);
    }
    return best;
}

/* Turn products into steps above each quantizer's least one; all sums must fit 16 bits. */
AVX2 static void make_tables(const Lists *lists, const float *products, uint8_t *tables) {
    __m256 widest = _mm256_setzero_ps(), whole = widest;
    for (Py_ssize_t m = 0; m < lists->quantizers; m++) {
        __m256 first = _mm256_loadu_ps(products + m * WORDS);
        __m256 second = _mm256_loadu_ps(products + m * WORDS + 8);
        __m256 span = _mm256_sub_ps(extreme(first, second, 1), extreme(first, second, 0));
        widest = _mm256_max_ps(widest, span);
        whole = _mm256_add_ps(whole, span);
    }
    float most = _mm256_cvtss_f32(widest), all = _mm256_cvtss_f32(whole), steps = 0;
    if (most > 0) {
        steps = (float)(UINT8_MAX / together(lists)) / most;
        float limit = (float)(UINT16_MAX - lists->quantizers) / all;
        steps = steps < limit ? steps : limit;
    }
    const __m256 scale = _mm256_set1_ps(steps), half = _mm256_set1_ps(0.5f);
    for (Py_ssize_t m = 0; m < lists->quantizers; m++) {
        __m256 first = _mm256_loadu_ps(products + m * WORDS);
        __m256 second = _mm256_loadu_ps(products + m * WORDS + 8);
        __m256 least = extreme(first, second, 0);
        first = _mm256_fmadd_ps(_mm256_sub_ps(first, least), scale, half);
        second = _mm256_fmadd_ps(_mm256_sub_ps(second, least), scale, half);
        __m256i words = _mm256_packus_epi32(_mm256_cvttps_epi32(first), _mm256_cvttps_epi32(second));
        words = _mm256_permute4x64_epi64(words, 0xd8); /* packing goes half by half */
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words),
                                         _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(tables + m * WORDS), bytes);
    }
}

/* Leave the nearest lists in `visits`, nearest first. */
static void rank(const Lists *lists, const float *query, Py_ssize_t nprobe, Room *room) {
    Product product = product_for(8);
    const uint8_t *centroids = lists->centroids.buf;
    uint64_t *visits = room->visits;
    weigh(query, lists->scales.buf, lists->dim, 8, room->weights);
    for (Py_ssize_t i = 0; i < lists->lists; i++) {
        float near = product(room->weights, centroids + i * lists->dim, lists->dim);
        int32_t bits;
        memcpy(&bits, &near, sizeof(bits));
        uint32_t rising = (uint32_t)(bits < 0 ? ~bits : bits ^ INT32_MIN);
        visits[i] = (uint64_t)rising << 32 | (uint32_t)~(uint32_t)i;
    }
    choose(visits, lists->lists, nprobe);
    sort(visits, nprobe);
    for (Py_ssize_t i = 0; i < nprobe; i++) visits[i] = (uint32_t)~(uint32_t)visits[i];
}

AVX2 static void find_one(const Lists *lists, const float *query, Py_ssize_t nprobe, Room *room,
                     int64_t *found) {
    const uint64_t *codes = lists->codes.buf, *ids = lists->ids.buf;
    const int64_t *sizes = lists->sizes.buf;
    Best *best = &room->best;
    best->count = 0, best->threshold = -1;
    room->visits[0] = 0;
    if (lists->centroids.len) rank(lists, query, nprobe, room);
    multiply(lists, query, room->products);
    make_tables(lists, room->products, room->tables);
    for (Py_ssize_t i = 0; i < nprobe; i++) {
        uint64_t list = room->visits[i];
        if (i + 1 < nprobe) fetch((const void *)(uintptr_t)codes[room->visits[i + 1]], 8 * LINE);
        const uint8_t *blocks = (const uint8_t *)(uintptr_t)codes[list];
        Py_ssize_t pairs = lists->quantizers / 2;
        if (together(lists) == 1) /* compiled twice, each with a number that is known */
            scan_list(blocks, sizes[list], lists->block_rows, room->tables, pairs, 1, i, best);
        else
            scan_list(blocks, sizes[list], lists->block_rows, room->tables, pairs, TOGETHER, i, best);
    }
    Py_ssize_t number = best->count < best->wanted ? best->count : best->wanted;
    choose(best->keys, best->count, number);
    sort(best->keys, number);
    for (Py_ssize_t i = 0; i < best->wanted; i++) {
        found[i] = -1;
        if (i >= number) continue;
        uint64_t where = ((UINT64_C(1) << PLACES) - 1) - (best->keys[i] & ((UINT64_C(1) << PLACES) - 1));
        uint64_t list = room->visits[where >> 32], place = where & UINT32_MAX;
        found[i] = ids[list] ? ((const int64_t *)(uintptr_t)ids[list])[place] : (int64_t)place;
    }
}

static int make_room(const Lists *lists, Py_ssize_t slots, Room *room) {
    size_t entries = (size_t)lists->quantizers * WORDS;
    room->best.wanted = slots;
    room->best.room = 2 * slots + LANE;
    room->products = malloc(entries * sizeof(float));
    room->tables = malloc(entries);
    room->weights = malloc((size_t)lists->dim * sizeof(int16_t));
    room->visits = malloc((size_t)lists->lists * sizeof(uint64_t));
    room->best.keys = malloc((size_t)room->best.room * sizeof(uint64_t));
    return room->products && room->tables && room->weights && room->visits && room->best.keys;
}

static void free_room(Room *room) {
    free(room->products);
    free(room->tables);
    free(room->weights);
    free(room->visits);
    free(room->best.keys);
}

PyDoc_STRVAR(find_doc, "find(queries, nprobe, found)\n--\n\n"
                       "Write the best rows of the nearest lists for each query, best first, -1 pads.");

static PyObject *Lists_find(Lists *self, PyObject *args) {
    Py_buffer queries, found;
    Py_ssize_t nprobe;
    if (!PyArg_ParseTuple(args, "y*nw*", &queries, &nprobe, &found)) return NULL;
    Py_ssize_t count = queries.len / ((Py_ssize_t)sizeof(float) * self->dim);
    Py_ssize_t cells = found.len / (Py_ssize_t)sizeof(int64_t);
    Py_ssize_t slots = count ? cells / count : 0;
    int fits = queries.len == count * self->dim * (Py_ssize_t)sizeof(float) &&
               found.len == count * slots * (Py_ssize_t)sizeof(int64_t) && nprobe > 0 &&
               nprobe <= self->lists && slots < PY_SSIZE_T_MAX / 64;
    PyObject *result = NULL;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of queries, %zd of results, nprobe=%zd do not fit",
                     queries.len, found.len, nprobe);
    } else {
        Room room = {0};
        if (!make_room(self, slots, &room)) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS;
            for (Py_ssize_t i = 0; slots && i < count; i++)
                find_one(self, (const float *)queries.buf + i * self->dim, nprobe, &room,
                         (int64_t *)found.buf + i * slots);
            Py_END_ALLOW_THREADS;
            result = Py_NewRef(Py_None);
        }
        free_room(&room);
    }
    PyBuffer_Release(&queries);
    PyBuffer_Release(&found);
    return result;
}

PyDoc_STRVAR(best_doc, "best(asked, nprobe, slots, dim, queries, matrix, alive, scores, rows, counts, "
                       "places)\n--\n\n"
                       "Score the best `slots` rows for each query; write the best of these.");

static PyObject *Lists_best(Lists *self, PyObject *args) {
    Py_buffer asked;
    Buffers of;
    Py_ssize_t nprobe, slots, dim;
    if (!PyArg_ParseTuple(args, "y*nnny*y*y*w*w*w*w*", &asked, &nprobe, &slots, &dim, &of.queries,
                          &of.matrix, &of.alive, &of.scores, &of.rows, &of.counts, &of.places))
        return NULL;
    Py_ssize_t count = asked.len / ((Py_ssize_t)sizeof(float) * self->dim);
    PyObject *result = NULL;
    Ending ending;
    Room room = {0};
    if (begin(&ending, &of, dim, count, slots)) {
        if (asked.len != count * self->dim * (Py_ssize_t)sizeof(float) || nprobe < 1 ||
            nprobe > self->lists) {
            PyErr_Format(PyExc_ValueError, "%zd bytes of queries and nprobe=%zd do not fit",
                         asked.len, nprobe);
        } else if (!make_room(self, slots, &room)) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS;
            for (Py_ssize_t i = 0; i < count; i++) {
                const float *query = (const float *)asked.buf + i * self->dim;
                find_one(self, query, nprobe, &room, ending.found);
                end(&ending, i);
            }
            Py_END_ALLOW_THREADS;
            result = Py_NewRef(Py_None);
        }
    }
    free_room(&room);
    finish(&ending);
    PyBuffer_Release(&asked);
    release(&of);
    return result;
}

/* -- the type ----------------------------------------------------------------------------------- */

static const char *wrong(const Lists *lists) {
    Py_ssize_t float_bytes = (Py_ssize_t)sizeof(float), n = lists->lists;
    if (lists->dim < 1 || lists->dim > 1 << 20) return "the dimension is out of range";
    if (lists->quantizers < 2 || lists->quantizers % 2 || lists->dim % lists->quantizers)
        return "quantizers come in pairs, and share the dimensions";
    if (lists->words.len != lists->dim * WORDS * float_bytes) return "there must be 16 words";
    if (lists->block_rows < AT_ONCE || lists->block_rows % AT_ONCE) return "blocks have 64 rows";
    if (n >= 1 << 16) return "lists are numbered in 16 bits";
    if (lists->quantizers >= UINT16_MAX) return "sums of so many quantizers do not fit 16 bits";
    if (n < 1 || lists->codes.len != lists->sizes.len ||
        lists->ids.len != lists->sizes.len)
        return "codes, ids and sizes are of other lists";
    if (lists->centroids.len ? lists->centroids.len != n * lists->dim : n != 1)
        return "there must be a centroid for each list";
    if (lists->centroids.len && lists->scales.len != lists->dim * float_bytes)
        return "there must be one scale for each dimension";
    for (Py_ssize_t i = 0; i < n; i++) {
        int64_t size = ((const int64_t *)lists->sizes.buf)[i];
        if (size < 0 || size > UINT32_MAX) return "a list has an impossible size";
    }
    return NULL;
}

static PyObject *Lists_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Lists *self = (Lists *)allocate(type, 0);
    if (self == NULL) return NULL;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*nnn", &self->words, &self->centroids, &self->scales,
                          &self->codes, &self->ids, &self->sizes, &self->dim, &self->quantizers,
                          &self->block_rows)) {
        Py_DECREF(self);
        return NULL;
    }
    self->lists = self->sizes.len / (Py_ssize_t)sizeof(int64_t);
    const char *reason = wrong(self);
    if (reason != NULL) {
        PyErr_SetString(PyExc_ValueError, reason);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Lists_dealloc(Lists *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_buffer *held[] = {&self->words, &self->centroids, &self->scales,
                         &self->codes, &self->ids,       &self->sizes};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++) PyBuffer_Release(held[i]);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef Lists_methods[] = {
    {"find", (PyCFunction)Lists_find, METH_VARARGS, find_doc},
    {"best", (PyCFunction)Lists_best, METH_VARARGS, best_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(lists_doc, "Lists(words, centroids, scales, codes, ids, sizes, dim, quantizers, block_rows)\n--\n\n"
                        "Lists of 4-bit codes where FAISS keeps them; `codes` and `ids` are addresses.");

static PyType_Slot Lists_slots[] = {
    {Py_tp_new, Lists_new},         {Py_tp_dealloc, Lists_dealloc},
    {Py_tp_methods, Lists_methods}, {Py_tp_doc, (void *)lists_doc},
    {0, NULL},
};

static PyType_Spec Lists_spec = {
    .name = "vecindex.ann._scan.Lists",
    .basicsize = sizeof(Lists),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Lists_slots,
};

static int fill_module(PyObject *module) {
    if (!has_avx2()) {
        PyErr_SetString(PyExc_ImportError, "this processor has no AVX2: FAISS scans");
        return -1;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &Lists_spec, NULL);
    if (type == NULL) return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

#else

static int fill_module(PyObject *module) {
    (void)module;
    PyErr_SetString(PyExc_ImportError, "scans are compiled for x86-64 only: FAISS scans");
    return -1;
}

#endif

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "vecindex.ann._scan",
    .m_doc = "A scan of 4-bit codes, packed in blocks as FAISS packs them.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&module_def); }
