#include "pbs_entries.h"

#include <string.h>

#include "pbs_bytes.h"
#include "pbs_chunks.h"
#include "pbs_error.h"

static const uint8_t *digest_at(const struct pbs_entries *entries, size_t pos)
{
    return entries->digests + pos * entries->stride;
}

uint64_t pbs_entry_start(const struct pbs_entries *entries, size_t pos)
{
    if (entries->chunk_size)
        return pos * entries->chunk_size;
    return pos ? pbs_load_le64(digest_at(entries, pos - 1) - sizeof(uint64_t)) : 0;
}

uint64_t pbs_entry_size(const struct pbs_entries *entries, size_t pos)
{
    uint64_t start = pbs_entry_start(entries, pos);

    if (!entries->chunk_size)
        return pbs_load_le64(digest_at(entries, pos) - sizeof(uint64_t)) - start;
    uint64_t rest = entries->size - start;
    return rest < entries->chunk_size ? rest : entries->chunk_size;
}

int pbs_entries_changed(const struct pbs_entries *entries, const struct pbs_entries *previous,
                        size_t first, size_t n, uint32_t *out, size_t *out_n)
{
    size_t changed = 0;

    if (first > entries->n || n > entries->n - first)
        return PBS_E_INVALID;
    if (entries->n != previous->n || entries->n > UINT32_MAX || !entries->chunk_size ||
        entries->chunk_size != previous->chunk_size)
        return PBS_E_INVALID;
    for (size_t pos = first; pos < first + n; pos++)
        if (memcmp(digest_at(entries, pos), digest_at(previous, pos), PBS_DIGEST_SIZE) != 0)
            out[changed++] = (uint32_t)pos;
    /* Only the last entry's size can differ where all chunks but the last are of one size. */
    size_t last = entries->n - 1;
    if (n && first + n == entries->n && (changed == 0 || out[changed - 1] != last) &&
        pbs_entry_size(entries, last) != pbs_entry_size(previous, last))
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

int pbs_entries_body(const struct pbs_entries *entries, const uint32_t *positions, size_t first,
                     size_t n, uint32_t writer_id, uint8_t *out, size_t limit, size_t *out_n,
                     size_t *out_len)
{
    size_t len = strlen(DIGESTS_OPEN OFFSETS_OPEN WRITER_OPEN "}") + decimal_size(writer_id);
    size_t fit = 0;

    for (; fit < n; fit++) {
        size_t pos = positions ? positions[fit] : first + fit;
        if (pos >= entries->n)
            return PBS_E_INVALID;
        /* "digest", and offset, : two quotes, two commas but for the last entry's. */
        size_t more = 64 + 2 + decimal_size(pbs_entry_start(entries, pos)) + (fit ? 2 : 0);
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
        pbs_digest_hex(digest_at(entries, positions ? positions[i] : first + i), (char *)at);
        at += 64;
        *at++ = '"';
    }
    at = put_text(at, OFFSETS_OPEN);
    for (size_t i = 0; i < fit; i++) {
        if (i)
            *at++ = ',';
        at += pbs_decimal(pbs_entry_start(entries, positions ? positions[i] : first + i),
                          (char *)at);
    }
    at = put_text(at, WRITER_OPEN);
    at += pbs_decimal(writer_id, (char *)at);
    *at++ = '}';
    *out_n = fit;
    *out_len = (size_t)(at - out);
    return PBS_OK;
}
