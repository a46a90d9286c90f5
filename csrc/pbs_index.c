#include "pbs_index.h"

#include <string.h>

#include "pbs_bytes.h"
#include "pbs_error.h"

/* Header layout, the same for both kinds (protocol/datastore.md, "Index files"). */
enum {
    MAGIC_SIZE = 8,
    UUID_AT = 8,
    CTIME_AT = 24,
    CSUM_AT = 32,
    SIZE_AT = 64,
    CHUNK_SIZE_AT = 72,
};

static const uint8_t fixed_magic[MAGIC_SIZE] = {47, 127, 65, 237, 145, 253, 15, 205};
static const uint8_t dynamic_magic[MAGIC_SIZE] = {28, 145, 78, 165, 25, 186, 179, 205};

static int parse_fixed(const uint8_t *base, size_t length, struct pbs_index *index)
{
    uint64_t size = pbs_load_le64(base + SIZE_AT);
    uint64_t chunk_size = pbs_load_le64(base + CHUNK_SIZE_AT);
    if (chunk_size == 0 || (chunk_size & (chunk_size - 1)) != 0)
        return PBS_E_CHUNK_SIZE;
    if (size == 0)
        return PBS_E_EMPTY;
    uint64_t n = (size - 1) / chunk_size + 1; /* never overflows, unlike size + chunk_size - 1 */
    size_t room = length - PBS_INDEX_HEADER_SIZE;
    if (room % PBS_FIXED_ENTRY_SIZE != 0 || room / PBS_FIXED_ENTRY_SIZE != n)
        return PBS_E_LENGTH;
    index->kind = PBS_INDEX_FIXED;
    index->digests = base + PBS_INDEX_HEADER_SIZE;
    index->stride = PBS_FIXED_ENTRY_SIZE;
    index->n = (size_t)n;
    index->size = size;
    index->chunk_size = chunk_size;
    index->largest = size < chunk_size ? size : chunk_size;
    return PBS_OK;
}

static int parse_dynamic(const uint8_t *base, size_t length, struct pbs_index *index)
{
    size_t room = length - PBS_INDEX_HEADER_SIZE;
    if (room % PBS_DYNAMIC_ENTRY_SIZE != 0)
        return PBS_E_LENGTH;
    size_t n = room / PBS_DYNAMIC_ENTRY_SIZE;
    index->kind = PBS_INDEX_DYNAMIC;
    index->digests = base + PBS_INDEX_HEADER_SIZE;
    if (n > 0)
        index->digests += sizeof(uint64_t);
    index->stride = PBS_DYNAMIC_ENTRY_SIZE;
    index->n = n;
    index->size = n > 0 ? pbs_index_end_offset(index, n - 1) : 0;
    return PBS_OK;
}

int pbs_index_parse(const uint8_t *base, size_t length, struct pbs_index *out)
{
    if (length < PBS_INDEX_HEADER_SIZE)
        return PBS_E_TRUNCATED;
    struct pbs_index index = {0};
    int status = PBS_E_MAGIC;
    if (memcmp(base, fixed_magic, MAGIC_SIZE) == 0)
        status = parse_fixed(base, length, &index);
    else if (memcmp(base, dynamic_magic, MAGIC_SIZE) == 0)
        status = parse_dynamic(base, length, &index);
    if (status != PBS_OK)
        return status;
    index.ctime = (int64_t)pbs_load_le64(base + CTIME_AT);
    memcpy(index.uuid, base + UUID_AT, sizeof index.uuid);
    memcpy(index.csum, base + CSUM_AT, sizeof index.csum);
    *out = index;
    return PBS_OK;
}

int pbs_index_check(struct pbs_index *index, size_t first, size_t n, size_t *out_pos)
{
    if (index->kind != PBS_INDEX_DYNAMIC || n == 0)
        return PBS_OK;
    const uint8_t *entry = pbs_index_digest(index, first) - sizeof(uint64_t);
    uint64_t end = pbs_index_start_offset(index, first);
    uint64_t largest = index->largest;
    for (size_t pos = first; pos < first + n; pos++, entry += PBS_DYNAMIC_ENTRY_SIZE) {
        uint64_t next = pbs_load_le64(entry);
        if (next <= end) {
            *out_pos = pos;
            return PBS_E_ORDER;
        }
        if (next - end > largest)
            largest = next - end;
        end = next;
    }
    index->largest = largest;
    return PBS_OK;
}

const uint8_t *pbs_index_digest(const struct pbs_index *index, size_t pos)
{
    return index->digests + pos * index->stride;
}

uint64_t pbs_index_end_offset(const struct pbs_index *index, size_t pos)
{
    if (index->kind == PBS_INDEX_DYNAMIC)
        return pbs_load_le64(pbs_index_digest(index, pos) - sizeof(uint64_t));
    /* The last chunk may be short; before it, (pos + 1) * chunk_size < size, so no overflow. */
    return pos + 1 == index->n ? index->size : (pos + 1) * index->chunk_size;
}

uint64_t pbs_index_start_offset(const struct pbs_index *index, size_t pos)
{
    return pos == 0 ? 0 : pbs_index_end_offset(index, pos - 1);
}

uint64_t pbs_index_chunk_bytes(const struct pbs_index *index, size_t pos)
{
    return pbs_index_end_offset(index, pos) - pbs_index_start_offset(index, pos);
}
