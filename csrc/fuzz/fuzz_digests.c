/*
 * The set of digests against a naive model: insert, contains, difference of batches in any layout.
 *
 * Input: the key, of which half may be zeros (digests collide then), the number expected, and
 * operations: what to do, the rows' layout, which rows are meant, and a byte a digest.
 */
#include "fuzz.h"
#include "pbs_digests.h"

enum { BATCHES = 40, ROWS = 200, DIGESTS = 256 };

/* All batches' memory stays as long as the set. */
struct model {
    uint8_t has[DIGESTS];
    size_t n;
    uint8_t *memory[BATCHES];
    size_t n_batches;
};

static void write_digest(uint8_t *out, uint8_t value)
{
    memset(out, 0, 32);
    out[value % 32] = value; /* 0 has the digest of zeros; they differ in single words */
    out[31] ^= (uint8_t)(value >> 5);
}

/* What write_digest has made: several values may give the same bytes, and one of them stands for all. */
static uint8_t canonical(const uint8_t *digest)
{
    static uint8_t all[DIGESTS][32];
    static int made;
    for (; made < DIGESTS; made++)
        write_digest(all[made], (uint8_t)made);
    for (unsigned value = 0; value < DIGESTS; value++)
        if (memcmp(all[value], digest, 32) == 0)
            return (uint8_t)value;
    abort();
}

static void passed(const void *from, size_t length)
{
    touch(from, length);
}

struct batch {
    struct pbs_batch batch;
    uint32_t *at;
    uint8_t values[ROWS]; /* of the rows that are meant */
    int is_valid;
};

static void make_batch(struct model *model, struct input *in, struct batch *out)
{
    static const ptrdiff_t strides[] = {32, 40, -32, -40, 0, 33, 64, 32};
    unsigned layout = take_u8(in);
    ptrdiff_t stride = strides[layout % 8];
    size_t step = (size_t)(stride < 0 ? -stride : stride);
    size_t n = take_u8(in) % ROWS, rows = n ? n : 1, bytes = 32 + step * (rows - 1);
    uint8_t *memory = allocate(bytes);

    memset(memory, 0xee, bytes);
    model->memory[model->n_batches++] = memory;
    uint8_t *base = stride < 0 ? memory + step * (rows - 1) : memory;
    for (size_t i = 0; i < n; i++)
        write_digest(base + (ptrdiff_t)i * stride, take_u8(in));
    out->batch = pbs_all((struct pbs_rows){base, stride, n});
    out->at = NULL;
    out->is_valid = 1;
    if (layout & 8) {
        out->batch.n = take_u8(in) % ROWS;
        out->at = allocate(out->batch.n * sizeof *out->at);
        for (size_t i = 0; i < out->batch.n; i++) {
            out->at[i] = take_u8(in);
            if (n && layout & 16)
                out->at[i] %= (uint32_t)n;
            if (out->at[i] >= n)
                out->is_valid = 0;
        }
        out->batch.at = out->at;
    }
    for (size_t i = 0; out->is_valid && i < out->batch.n; i++)
        out->values[i] = canonical(base + (ptrdiff_t)(out->at ? out->at[i] : i) * stride);
}

static void insert(struct pbs_digests *set, struct model *model, const struct batch *batch,
                   int with_positions)
{
    size_t n = batch->batch.n, added = 0, expected = 0;
    uint8_t *is_new = allocate(n);
    uint32_t *positions = allocate(n * sizeof *positions);
    int status = pbs_digests_insert(set, batch->batch, is_new, with_positions ? positions : NULL,
                                    &added);
    CHECK(status == (batch->is_valid ? PBS_OK : PBS_E_INVALID));
    for (size_t i = 0; batch->is_valid && i < n; i++) {
        uint8_t *has = &model->has[batch->values[i]];
        CHECK(is_new[i] == !*has);
        if (!*has) {
            CHECK(!with_positions || positions[expected] == i);
            expected++;
        }
        *has = 1;
    }
    CHECK(added == expected);
    model->n += added;
    free(is_new);
    free(positions);
}

static void look_up(struct pbs_digests *set, const struct model *model, const struct batch *batch)
{
    size_t n = batch->batch.n, out_n = 0, expected = 0;
    uint8_t *found = allocate(n);
    uint32_t *positions = allocate(n * sizeof *positions);
    int wanted = batch->is_valid ? PBS_OK : PBS_E_INVALID;
    CHECK(pbs_digests_contains(set, batch->batch, found) == wanted);
    CHECK(pbs_digests_difference(set, batch->batch, positions, &out_n) == wanted);
    for (size_t i = 0; batch->is_valid && i < n; i++) {
        CHECK(found[i] == model->has[batch->values[i]]);
        if (!found[i])
            CHECK(expected < out_n && positions[expected++] == i);
    }
    CHECK(expected == out_n);
    free(found);
    free(positions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct model model = {0};
    struct pbs_digests *set;
    struct pbs_digests_stats stats;
    uint8_t key[PBS_DIGESTS_KEY_SIZE] = {0};
    unsigned how = take_u8(&in);
    for (size_t i = 0; i < (how & 1 ? sizeof key : 8); i++)
        key[how & 2 ? i : sizeof key - 1 - i] = take_u8(&in);
    CHECK(pbs_digests_new(key, how >> 3, how & 4 ? passed : NULL, &set) == PBS_OK);
    while (in.left && model.n_batches < BATCHES) {
        struct batch batch;
        unsigned what = take_u8(&in);
        make_batch(&model, &in, &batch);
        if (what & 1)
            insert(set, &model, &batch, what & 2);
        if (what & 4) /* the same rows again */
            insert(set, &model, &batch, what & 2);
        if (what & 8)
            look_up(set, &model, &batch);
        free(batch.at);
    }
    pbs_digests_measure(set, &stats);
    CHECK(stats.count == model.n);
    pbs_digests_free(set);
    for (size_t i = 0; i < model.n_batches; i++)
        free(model.memory[i]);
    return 0;
}
