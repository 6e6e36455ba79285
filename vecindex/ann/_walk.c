/* The walk through a graph that FAISS linked, measured by its codes.
 *
 * FAISS walks every graph in the same way, and as fast over floats; what it lacks is a quick
 * distance to codes of 8 or 4 bits, and asking for the next rows' memory before it is needed. The
 * graph itself, its file and its build are FAISS's: this module reads links, codes and ranges where
 * FAISS keeps them.
 *
 * Nothing here trusts the graph: what lies beyond the arrays ends a list.
 *
 * Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical
 * navigable small world graphs", 2018, algorithms 2 and 5.
 */
#include "_best.h"

/* -- the graph ---------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Py_buffer links, offsets, levels, codes, scales; /* held as long as the graph lives */
    Py_ssize_t dim, rows, row_bytes;
    int bits; /* of a dimension */
    int64_t entry;
    Py_ssize_t top;
    Product product;
} Graph;

enum {
    LINK = sizeof(int32_t),
    SOON = 2,         /* rows whose links are asked of the memory ahead of time */
    USUAL = 2 * LINE, /* bytes of links that most rows have; there is room for more */
};

/* Bytes of links; in a mapped file they need not be aligned. */
typedef struct {
    const char *begin, *end;
} List;

static const char *offset_of(const Graph *graph, uint32_t row) {
    return (const char *)graph->offsets.buf + (size_t)row * sizeof(uint64_t);
}

/* Return a row's links on a level; an empty list if they would lie beyond the arrays. */
static List list_of(const Graph *graph, uint32_t row, Py_ssize_t level) {
    const char *links = graph->links.buf;
    const int32_t *levels = graph->levels.buf;
    uint64_t all = (uint64_t)graph->links.len / LINK, start;
    memcpy(&start, offset_of(graph, row), sizeof(start));
    uint64_t begin = start + (uint64_t)levels[level], end = start + (uint64_t)levels[level + 1];
    if (start > all || end > all) return (List){links, links};
    return (List){links + begin * LINK, links + end * LINK};
}

/* Take a list's next link; false at its end, and at a pad or whatever else is no row. */
static int next_link(const Graph *graph, List *list, uint32_t *row) {
    int32_t link;
    if (list->begin == list->end) return 0;
    memcpy(&link, list->begin, LINK);
    list->begin += LINK;
    *row = (uint32_t)link;
    return *row < (uint32_t)graph->rows;
}

static const uint8_t *codes_of(const Graph *graph, uint32_t row) {
    return (const uint8_t *)graph->codes.buf + (size_t)row * (size_t)graph->row_bytes;
}

/* -- one walk ----------------------------------------------------------------------------------- */

typedef struct {
    float score;
    uint32_t row : 31, done : 1; /* whether its links were followed */
} Entry;

typedef struct {
    Py_ssize_t most; /* rows kept */
    Entry *best;
    uint32_t *todo; /* as many as a row has links on the lowest level */
    uint64_t *seen; /* a bit for each row */
    size_t seen_bytes;
    void *query;
} Room;

static uint32_t descend(const Graph *graph, const void *query, float *score) {
    uint32_t row = (uint32_t)graph->entry;
    *score = graph->product(query, codes_of(graph, row), graph->dim);
    for (Py_ssize_t level = graph->top; level > 0; level--) {
        uint32_t from;
        do {
            from = row;
            uint32_t other;
            for (List list = list_of(graph, from, level); next_link(graph, &list, &other);)
                fetch(codes_of(graph, other), graph->row_bytes);
            for (List list = list_of(graph, from, level); next_link(graph, &list, &other);) {
                float near = graph->product(query, codes_of(graph, other), graph->dim);
                if (near > *score) *score = near, row = other;
            }
        } while (row != from);
    }
    return row;
}

/* Put a row where its score belongs, after equal ones, if it is among the best; return the place. */
static Py_ssize_t put(Room *room, Py_ssize_t *count, uint32_t row, float score) {
    Entry *best = room->best;
    if (*count == room->most && !(score > best[*count - 1].score)) return *count;
    Py_ssize_t low = 0, high = *count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (best[middle].score >= score)
            low = middle + 1;
        else
            high = middle;
    }
    if (*count < room->most) ++*count;
    memmove(best + low + 1, best + low, (size_t)(*count - 1 - low) * sizeof(Entry));
    best[low] = (Entry){score, row & 0x7fffffff, 0};
    return low;
}

/* Leave the best rows in `room->best`, best first, and return their number. The walk is over when
 * the links of the `ef` best were followed; if more are kept, they are what it came by. */
static Py_ssize_t walk(const Graph *graph, Py_ssize_t ef, Room *room) {
    Entry *best = room->best;
    uint64_t *seen = room->seen;
    Py_ssize_t count = 0, next = 0;
    float score;
    memset(seen, 0, room->seen_bytes);
    uint32_t row = descend(graph, room->query, &score);
    seen[row >> 6] |= UINT64_C(1) << (row & 63);
    put(room, &count, row, score);
    while (next < count && next < ef) {
        best[next].done = 1;
        Py_ssize_t left = 0;
        for (List list = list_of(graph, best[next].row, 0); next_link(graph, &list, &row);) {
            uint64_t bit = UINT64_C(1) << (row & 63);
            if (seen[row >> 6] & bit) continue;
            seen[row >> 6] |= bit;
            fetch(codes_of(graph, row), graph->row_bytes);
            room->todo[left++] = row;
        }
        for (Py_ssize_t i = 0; i < left; i++) {
            score = graph->product(room->query, codes_of(graph, room->todo[i]), graph->dim);
            Py_ssize_t place = put(room, &count, room->todo[i], score);
            if (place < ef) PREFETCH(offset_of(graph, room->todo[i]));
            if (place < next) next = place;
        }
        while (next < count && best[next].done) next++;
        /* In place: of a function that only asks the memory, GCC thinks that it does nothing. */
        Py_ssize_t end = count < ef ? count : ef, asked = 0;
        for (Py_ssize_t i = next; i < end && asked < SOON; i++) {
            if (best[i].done) continue;
            fetch(list_of(graph, best[i].row, 0).begin, USUAL);
            asked++;
        }
    }
    return count;
}

/* -- queries ------------------------------------------------------------------------------------ */

static void free_room(Room *room) {
    free(room->best);
    free(room->todo);
    free(room->seen);
    free(room->query);
}

static int make_room(const Graph *graph, Py_ssize_t most, Room *room) {
    size_t links = (size_t)((const int32_t *)graph->levels.buf)[1];
    size_t padded = ((size_t)graph->dim + BLOCK) * sizeof(float);
    room->seen_bytes = ((size_t)graph->rows / 64 + 1) * sizeof(uint64_t);
    room->most = most < graph->rows ? most : graph->rows;
    room->best = malloc((size_t)room->most * sizeof(Entry));
    room->todo = malloc((links + 1) * sizeof(uint32_t));
    room->seen = malloc(room->seen_bytes);
    room->query = calloc(1, padded);
    return room->best && room->todo && room->seen && room->query;
}

/* Write one query's best rows, best first, -1 pads. */
static void find_one(const Graph *graph, const float *query, Py_ssize_t ef, Room *room,
                     Py_ssize_t slots, int64_t *found) {
    weigh(query, graph->scales.buf, graph->dim, graph->bits, room->query);
    Py_ssize_t number = walk(graph, ef, room);
    for (Py_ssize_t i = 0; i < slots; i++) found[i] = i < number ? room->best[i].row : -1;
}

PyDoc_STRVAR(walk_doc, "walk(queries, ef, found)\n--\n\n"
                       "Write the best rows of a walk with `ef` for each query, best first, -1 pads.");

static PyObject *Graph_walk(Graph *self, PyObject *args) {
    Py_buffer queries, found;
    Py_ssize_t ef;
    if (!PyArg_ParseTuple(args, "y*nw*", &queries, &ef, &found)) return NULL;
    Py_ssize_t count = queries.len / ((Py_ssize_t)sizeof(float) * self->dim);
    Py_ssize_t cells = found.len / (Py_ssize_t)sizeof(int64_t);
    Py_ssize_t slots = count ? cells / count : 0;
    int fits = queries.len == count * self->dim * (Py_ssize_t)sizeof(float) &&
               found.len == count * slots * (Py_ssize_t)sizeof(int64_t) && ef > 0;
    PyObject *result = NULL;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of queries, %zd of results and ef=%zd do not fit",
                     queries.len, found.len, ef);
    } else {
        Room room = {0};
        if (!make_room(self, ef > slots ? ef : slots, &room)) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS;
            for (Py_ssize_t i = 0; i < count; i++)
                find_one(self, (const float *)queries.buf + i * self->dim, ef, &room, slots,
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

PyDoc_STRVAR(best_doc, "best(ef, slots, queries, matrix, alive, scores, rows, counts, places)\n--\n\n"
                       "Score the best `slots` rows of each walk; write the best of these.");

static PyObject *Graph_best(Graph *self, PyObject *args) {
    Buffers of;
    Py_ssize_t ef, slots;
    if (!PyArg_ParseTuple(args, "nny*y*y*w*w*w*w*", &ef, &slots, &of.queries, &of.matrix, &of.alive,
                          &of.scores, &of.rows, &of.counts, &of.places))
        return NULL;
    Py_ssize_t count = of.queries.len / ((Py_ssize_t)sizeof(float) * self->dim);
    PyObject *result = NULL;
    Ending ending;
    Room room = {0};
    if (begin(&ending, &of, self->dim, count, slots)) {
        if (ef < 1) {
            PyErr_Format(PyExc_ValueError, "ef=%zd is too small", ef);
        } else if (!make_room(self, ef > slots ? ef : slots, &room)) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS;
            for (Py_ssize_t i = 0; i < count; i++) {
                const float *query = (const float *)of.queries.buf + i * self->dim;
                find_one(self, query, ef, &room, slots, ending.found);
                end(&ending, i);
            }
            Py_END_ALLOW_THREADS;
            result = Py_NewRef(Py_None);
        }
    }
    free_room(&room);
    finish(&ending);
    release(&of);
    return result;
}

/* -- the type ----------------------------------------------------------------------------------- */

/* Return what is wrong with a graph's arrays, NULL if nothing is. */
static const char *wrong(const Graph *graph) {
    const int32_t *levels = graph->levels.buf;
    if (graph->bits != 8 && graph->bits != 4) return "codes have 8 or 4 bits a dimension";
    if (graph->dim < 1 || graph->dim > 1 << 20) return "the dimension is out of range";
    if (graph->rows < 1 || graph->rows > INT32_MAX) return "the number of rows is out of range";
    if (graph->codes.len / graph->row_bytes < graph->rows) return "there are codes of fewer rows";
    if (graph->scales.len != graph->dim * (Py_ssize_t)sizeof(float))
        return "there must be one scale for each dimension";
    if (graph->entry < 0 || graph->entry >= graph->rows) return "the walk starts at no row";
    if (graph->top < 0 || graph->levels.len / (Py_ssize_t)sizeof(int32_t) < graph->top + 2)
        return "a level has no lists";
    for (Py_ssize_t i = 0; i <= graph->top; i++)
        if (levels[i] < 0 || levels[i + 1] < levels[i]) return "a level's lists have no length";
    return NULL;
}

static PyObject *Graph_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)kwargs;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Graph *self = (Graph *)allocate(type, 0);
    if (self == NULL) return NULL;
    long long entry;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*inLn", &self->links, &self->offsets, &self->levels,
                          &self->codes, &self->scales, &self->bits, &self->dim, &entry,
                          &self->top)) {
        Py_DECREF(self);
        return NULL;
    }
    self->entry = entry;
    self->rows = self->offsets.len / (Py_ssize_t)sizeof(uint64_t) - 1;
    self->row_bytes = (self->dim * self->bits + 7) / 8;
    self->product = product_for(self->bits);
    const char *reason = wrong(self);
    if (reason != NULL) {
        PyErr_SetString(PyExc_ValueError, reason);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Graph_dealloc(Graph *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_buffer *held[] = {&self->links, &self->offsets, &self->levels, &self->codes, &self->scales};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++) PyBuffer_Release(held[i]);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef Graph_methods[] = {
    {"walk", (PyCFunction)Graph_walk, METH_VARARGS, walk_doc},
    {"best", (PyCFunction)Graph_best, METH_VARARGS, best_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(graph_doc, "Graph(links, offsets, levels, codes, scales, bits, dim, entry, top)\n--\n\n"
                        "A graph's arrays as FAISS keeps them; none is copied.");

static PyType_Slot Graph_slots[] = {
    {Py_tp_new, Graph_new},         {Py_tp_dealloc, Graph_dealloc},
    {Py_tp_methods, Graph_methods}, {Py_tp_doc, (void *)graph_doc},
    {0, NULL},
};

static PyType_Spec Graph_spec = {
    .name = "vecindex.ann._walk.Graph",
    .basicsize = sizeof(Graph),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Graph_slots,
};

static int fill_module(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &Graph_spec, NULL);
    if (type == NULL) return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "vecindex.ann._walk",
    .m_doc = "The walk through a graph that FAISS linked, measured by its codes.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__walk(void) { return PyModuleDef_Init(&module_def); }
