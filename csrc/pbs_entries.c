#include "pbs_entries.h"

#include <string.h>

#include "pbs_bytes.h"
#include "pbs_chunks.h"
#include "pbs_error.h"

int pbs_entries_changed(const struct pbs_index *index, const struct pbs_index *previous,
                        size_t first, size_t n, uint32_t *out, size_t *out_n)
{
    size_t changed = 0;

    if (first > index->n || n > index->n - first)
        return PBS_E_INVALID;
    if (index->kind != PBS_INDEX_FIXED || previous->kind != PBS_INDEX_FIXED ||
        index->n != previous->n || index->n > UINT32_MAX ||
        index->chunk_size != previous->chunk_size)
        return PBS_E_INVALID;
    for (size_t pos = first; pos < first + n; pos++)
        if (memcmp(pbs_index_digest(index, pos), pbs_index_digest(previous, pos),
                   PBS_DIGEST_SIZE) != 0)
            out[changed++] = (uint32_t)pos;
    /* Only the last entry's size can differ where all chunks but the last are of one size. */
    size_t last = index->n - 1;
    if (n && first + n == index->n && (changed == 0 || out[changed - 1] != last) &&
        pbs_index_chunk_bytes(index, last) != pbs_index_chunk_bytes(previous, last))
        out[changed++] = (uint32_t)last;
    *out_n = changed;
    return PBS_OK;
}

size_t pbs_decimal(uint64_t value, char *out)
{
    char reversed[20];
    size_t n = 0;

    do {
        reversed[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

static size_t decimal_size(uint64_t value)
{
    char scratch[20];
    return pbs_decimal(value, scratch);
}

#define DIGESTS_OPEN "{\"digest-list\":["
#define OFFSETS_OPEN "],\"offset-list\":["
#define WRITER_OPEN "],\"wid\":"

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text);
    memcpy(at, text, len);
    return at + len;
}

int pbs_entries_body(const struct pbs_index *index, const uint32_t *positions, size_t first,
                     size_t n, uint32_t writer_id, uint8_t *out, size_t limit, size_t *out_n,
                     size_t *out_len)
{
    size_t len = strlen(DIGESTS_OPEN OFFSETS_OPEN WRITER_OPEN "}") + decimal_size(writer_id);
    size_t fit = 0;

    for (; fit < n; fit++) {
        size_t pos = positions ? positions[fit] : first + fit;
        if (pos >= index->n)
            return PBS_E_INVALID;
        /* "digest", and offset, : two quotes, two commas but for the last entry's. */
        size_t more = 64 + 2 + decimal_size(pbs_index_start_offset(index, pos)) + (fit ? 2 : 0);
        if (len + more > limit)
            break;
        len += more;
    }
    if (fit == 0)
        return PBS_E_INVALID;

    uint8_t *at = put_text(out, DIGESTS_OPEN);
    for (size_t i = 0; i < fit; i++) {
        if (i)
            *at++ = ',';
        *at++ = '"';
        pbs_digest_hex(pbs_index_digest(index, positions ? positions[i] : first + i), (char *)at);
        at += 64;
        *at++ = '"';
    }
    at = put_text(at, OFFSETS_OPEN);
    for (size_t i = 0; i < fit; i++) {
        if (i)
            *at++ = ',';
        at += pbs_decimal(pbs_index_start_offset(index, positions ? positions[i] : first + i),
                          (char *)at);
    }
    at = put_text(at, WRITER_OPEN);
    at += pbs_decimal(writer_id, (char *)at);
    *at++ = '}';
    *out_n = fit;
    *out_len = (size_t)(at - out);
    return PBS_OK;
}
