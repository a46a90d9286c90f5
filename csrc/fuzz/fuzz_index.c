/*
 * Index files: header and entries, looked at one by one and compared with what the bytes say.
 *
 * Input: how the file is made, then either the bytes of a whole file (libFuzzer finds few of 4,096
 * bytes by itself), or the fields of a header that count and the entries' bytes, of which every entry
 * after the first may be repeated.
 */
#include "fuzz.h"
#include "pbs_index.h"

static const uint8_t fixed_magic[] = {47, 127, 65, 237, 145, 253, 15, 205};
static const uint8_t dynamic_magic[] = {28, 145, 78, 165, 25, 186, 179, 205};

enum { AS_IT_IS, FIXED, DYNAMIC, DYNAMIC_IN_ORDER };

static uint8_t *make_file(struct input *in, size_t *out_len)
{
    unsigned how = take_u8(in) % 4;
    if (how == AS_IT_IS) {
        *out_len = in->left;
        return exact_copy(in->at, in->left);
    }
    unsigned shift = take_u8(in);
    uint64_t chunk_size = shift & 0x80 ? take_u64(in) : (uint64_t)1 << shift % 64;
    uint64_t size = take_u64(in);
    size_t entry = how == FIXED ? 32 : 40, n = in->left / entry;
    if (how == FIXED && shift & 0x40 && chunk_size) /* as many entries as there are */
        size = n * chunk_size - size % chunk_size;
    *out_len = PBS_INDEX_HEADER_SIZE + in->left;
    uint8_t *file = allocate(*out_len);
    memset(file, 0, PBS_INDEX_HEADER_SIZE);
    memcpy(file, how == FIXED ? fixed_magic : dynamic_magic, 8);
    pbs_store_le64(file + 64, size);
    pbs_store_le64(file + 72, chunk_size);
    if (in->left)
        memcpy(file + PBS_INDEX_HEADER_SIZE, in->at, in->left);
    uint64_t end = 0;
    for (size_t i = 0; how == DYNAMIC_IN_ORDER && i < n; i++) {
        uint8_t *at = file + PBS_INDEX_HEADER_SIZE + i * entry;
        end += 1 + pbs_load_le32(at);
        pbs_store_le64(at, end);
    }
    return file;
}

static void check_fixed(const struct pbs_index *index, const uint8_t *file, size_t len)
{
    CHECK(memcmp(file, fixed_magic, 8) == 0);
    CHECK(index->stride == 32 && len == 4096 + 32 * index->n && index->n > 0);
    CHECK(index->size == pbs_load_le64(file + 64) && index->chunk_size == pbs_load_le64(file + 72));
    CHECK(__builtin_popcountll(index->chunk_size) == 1);
}

static void check_dynamic(const struct pbs_index *index, const uint8_t *file, size_t len)
{
    CHECK(memcmp(file, dynamic_magic, 8) == 0);
    CHECK(index->stride == 40 && len == 4096 + 40 * index->n && index->chunk_size == 0);
}

/* The first entry that does not end behind the one before, or n. */
static size_t first_disorder(const struct pbs_index *index, const uint8_t *file)
{
    uint64_t before = 0;
    for (size_t i = 0; i < index->n; i++) {
        uint64_t end = pbs_load_le64(file + 4096 + 40 * i);
        if (end <= before)
            return i;
        before = end;
    }
    return index->n;
}

static int check_in_parts(struct pbs_index *index, size_t part, size_t *out_pos)
{
    for (size_t first = 0; first < index->n; first += part) {
        size_t n = index->n - first < part ? index->n - first : part;
        int status = pbs_index_check(index, first, n, out_pos);
        if (status)
            return status;
    }
    return PBS_OK;
}

static void check_order(struct pbs_index *index, const uint8_t *file, size_t part)
{
    size_t pos = SIZE_MAX;
    int status = check_in_parts(index, part, &pos);
    size_t disorder = index->kind == PBS_INDEX_DYNAMIC ? first_disorder(index, file) : index->n;
    CHECK(status == (disorder < index->n ? PBS_E_ORDER : PBS_OK));
    CHECK(status == PBS_OK || pos == disorder);
}

static void check_entries(const struct pbs_index *index, const uint8_t *file)
{
    uint64_t end = 0, largest = 0;
    for (size_t i = 0; i < index->n; i++) {
        const uint8_t *digest = pbs_index_digest(index, i);
        size_t at = index->kind == PBS_INDEX_FIXED ? 4096 + 32 * i : 4096 + 40 * i + 8;
        CHECK(digest == file + at);
        touch(digest, 32);
        CHECK(pbs_index_start_offset(index, i) == end);
        uint64_t next = pbs_index_end_offset(index, i);
        CHECK(next > end && next <= index->size);
        CHECK(pbs_index_chunk_bytes(index, i) == next - end);
        CHECK(index->kind == PBS_INDEX_DYNAMIC || next - end == index->chunk_size ||
              (i + 1 == index->n && next - end < index->chunk_size));
        largest = next - end > largest ? next - end : largest;
        end = next;
    }
    CHECK(end == index->size && largest == index->largest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    size_t part = 1u + take_u8(&in), len;
    uint8_t *file = make_file(&in, &len);
    struct pbs_index index;
    int status = pbs_index_parse(file, len, &index);
    CHECK(status == PBS_OK || status == PBS_E_TRUNCATED || status == PBS_E_MAGIC ||
          status == PBS_E_CHUNK_SIZE || status == PBS_E_EMPTY || status == PBS_E_LENGTH);
    if (!status) {
        if (index.kind == PBS_INDEX_FIXED)
            check_fixed(&index, file, len);
        else
            check_dynamic(&index, file, len);
        check_order(&index, file, part);
        if (index.kind == PBS_INDEX_FIXED || first_disorder(&index, file) == index.n)
            check_entries(&index, file);
    }
    free(file);
    return 0;
}
