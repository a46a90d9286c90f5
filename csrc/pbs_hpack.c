#include "pbs_hpack.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pbs_error.h"

/* RFC 7541, Appendix A. */
static const struct {
    const char *name;
    const char *value;
} static_table[] = {
    /* clang-format off */
    {":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"},
    {":path", "/index.html"}, {":scheme", "http"}, {":scheme", "https"}, {":status", "200"},
    {":status", "204"}, {":status", "206"}, {":status", "304"}, {":status", "400"},
    {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
    {"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""},
    {"accept", ""}, {"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""},
    {"authorization", ""}, {"cache-control", ""}, {"content-disposition", ""},
    {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
    {"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""},
    {"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""},
    {"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
    {"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""},
    {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
    {"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
    {"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""},
    {"vary", ""}, {"via", ""}, {"www-authenticate", ""},
    /* clang-format on */
};

#define STATIC_ROWS (sizeof static_table / sizeof static_table[0])

/* ---- Huffman code (RFC 7541, Appendix B): canonical, so the lengths say it all ---- */

#define SYMBOLS 257
#define EOS 256
#define MIN_CODE 5
#define MAX_CODE 30

static const uint8_t code_length[SYMBOLS] = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,
    5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,
    7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 19, 13, 14, 6,
    15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,
    7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
};

static struct {
    uint32_t first_code[MAX_CODE + 2]; /* smallest code of this length */
    uint16_t first_rank[MAX_CODE + 2]; /* how many symbols have a shorter one */
    uint16_t count[MAX_CODE + 2];
    uint16_t symbol[SYMBOLS]; /* by length, then by value */
} huffman;

static pthread_once_t huffman_once = PTHREAD_ONCE_INIT;

static void huffman_init(void)
{
    uint32_t code = 0;
    uint16_t rank = 0;

    for (unsigned length = MIN_CODE; length <= MAX_CODE; length++) {
        huffman.first_code[length] = code;
        huffman.first_rank[length] = rank;
        for (unsigned symbol = 0; symbol < SYMBOLS; symbol++)
            if (code_length[symbol] == length)
                huffman.symbol[rank++] = (uint16_t)symbol;
        huffman.count[length] = (uint16_t)(rank - huffman.first_rank[length]);
        code = (code + huffman.count[length]) << 1;
    }
}

static int huffman_decode(const uint8_t *in, size_t len, uint8_t *out, size_t *out_len)
{
    uint32_t code = 0;
    unsigned length = 0;
    size_t n = 0;

    for (size_t bit = 0; bit < len * 8; bit++) {
        code = (code << 1) | ((uint32_t)in[bit / 8] >> (7 - bit % 8) & 1u);
        length++;
        if (length > MAX_CODE)
            return PBS_E_PROTOCOL;
        if (length < MIN_CODE || code - huffman.first_code[length] >= huffman.count[length])
            continue;
        uint16_t symbol =
            huffman.symbol[huffman.first_rank[length] + code - huffman.first_code[length]];
        if (symbol == EOS)
            return PBS_E_PROTOCOL;
        if (n == PBS_HPACK_STRING_MAX)
            return PBS_E_TOO_LARGE;
        out[n++] = (uint8_t)symbol;
        code = 0;
        length = 0;
    }
    /* What is left must be padding: fewer than 8 bits, all ones (RFC 7541, 5.2). */
    if (length > 7 || code != (1u << length) - 1)
        return PBS_E_PROTOCOL;
    *out_len = n;
    return PBS_OK;
}

/* ---- the dynamic table: entries in a byte ring would save little; 128 fit at most ---- */

#define ENTRY_OVERHEAD 32u
#define MAX_ENTRIES (PBS_HPACK_TABLE_SIZE / ENTRY_OVERHEAD)

struct entry {
    uint8_t *bytes; /* name, then value; owned */
    uint32_t name_len;
    uint32_t value_len;
};

struct pbs_hpack {
    struct entry entries[MAX_ENTRIES]; /* newest first, as indexed */
    unsigned n_entries;
    uint32_t size;
    uint32_t limit;
    uint8_t name[PBS_HPACK_STRING_MAX];
    uint8_t value[PBS_HPACK_STRING_MAX];
};

int pbs_hpack_new(struct pbs_hpack **out)
{
    pthread_once(&huffman_once, huffman_init);
    struct pbs_hpack *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return PBS_E_NOMEM;
    decoder->limit = PBS_HPACK_TABLE_SIZE;
    *out = decoder;
    return PBS_OK;
}

void pbs_hpack_free(struct pbs_hpack *decoder)
{
    if (!decoder)
        return;
    for (unsigned i = 0; i < decoder->n_entries; i++)
        free(decoder->entries[i].bytes);
    free(decoder);
}

static uint32_t entry_size(const struct entry *entry)
{
    return entry->name_len + entry->value_len + ENTRY_OVERHEAD;
}

static void evict_to(struct pbs_hpack *decoder, uint32_t size)
{
    while (decoder->size > size) {
        struct entry *oldest = &decoder->entries[--decoder->n_entries];
        decoder->size -= entry_size(oldest);
        free(oldest->bytes);
    }
}

static int table_add(struct pbs_hpack *decoder, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len)
{
    size_t size = name_len + value_len + ENTRY_OVERHEAD;
    if (size > decoder->limit) { /* legal, and empties the table (RFC 7541, 4.4) */
        evict_to(decoder, 0);
        return PBS_OK;
    }
    struct entry entry = {malloc(name_len + value_len + 1), (uint32_t)name_len,
                          (uint32_t)value_len};
    if (!entry.bytes)
        return PBS_E_NOMEM;
    memcpy(entry.bytes, name, name_len);
    memcpy(entry.bytes + name_len, value, value_len);
    evict_to(decoder, decoder->limit - (uint32_t)size);
    memmove(&decoder->entries[1], &decoder->entries[0],
            decoder->n_entries * sizeof decoder->entries[0]);
    decoder->entries[0] = entry;
    decoder->n_entries++;
    decoder->size += (uint32_t)size;
    return PBS_OK;
}

struct text {
    const uint8_t *bytes;
    size_t len;
};

static int table_get(const struct pbs_hpack *decoder, uint64_t index, struct text *name,
                     struct text *value)
{
    if (index == 0)
        return PBS_E_PROTOCOL;
    if (index <= STATIC_ROWS) {
        const char *row_name = static_table[index - 1].name;
        const char *row_value = static_table[index - 1].value;
        *name = (struct text){(const uint8_t *)row_name, strlen(row_name)};
        *value = (struct text){(const uint8_t *)row_value, strlen(row_value)};
        return PBS_OK;
    }
    index -= STATIC_ROWS + 1;
    if (index >= decoder->n_entries)
        return PBS_E_PROTOCOL;
    const struct entry *entry = &decoder->entries[index];
    *name = (struct text){entry->bytes, entry->name_len};
    *value = (struct text){entry->bytes + entry->name_len, entry->value_len};
    return PBS_OK;
}

/* ---- decoding ---- */

struct reader {
    const uint8_t *at;
    const uint8_t *end;
};

/* An integer with a prefix of that many bits (RFC 7541, 5.1). */
static int read_integer(struct reader *in, unsigned prefix_bits, uint64_t *out)
{
    if (in->at == in->end)
        return PBS_E_PROTOCOL;
    uint8_t mask = (uint8_t)((1u << prefix_bits) - 1);
    uint64_t value = *in->at++ & mask;
    if (value == mask) {
        unsigned shift = 0;
        uint8_t byte;
        do {
            if (in->at == in->end || shift > 28)
                return PBS_E_PROTOCOL;
            byte = *in->at++;
            value += (uint64_t)(byte & 0x7f) << shift;
            shift += 7;
        } while (byte & 0x80);
    }
    *out = value;
    return PBS_OK;
}

static int read_string(struct reader *in, uint8_t *scratch, struct text *out)
{
    if (in->at == in->end)
        return PBS_E_PROTOCOL;
    int coded = *in->at & 0x80;
    uint64_t len;
    int status = read_integer(in, 7, &len);
    if (status)
        return status;
    if (len > (size_t)(in->end - in->at))
        return PBS_E_PROTOCOL;
    const uint8_t *bytes = in->at;
    in->at += len;
    if (coded) {
        status = huffman_decode(bytes, (size_t)len, scratch, &out->len);
        if (status)
            return status;
    } else {
        if (len > PBS_HPACK_STRING_MAX)
            return PBS_E_TOO_LARGE;
        /* Copied, since adding to the table may free what a borrowed name points to. */
        memcpy(scratch, bytes, (size_t)len);
        out->len = (size_t)len;
    }
    out->bytes = scratch;
    return PBS_OK;
}

static int read_literal(struct pbs_hpack *decoder, struct reader *in, unsigned prefix_bits,
                        struct text *name, struct text *value)
{
    uint64_t index;
    int status = read_integer(in, prefix_bits, &index);
    if (status)
        return status;
    if (index == 0) {
        status = read_string(in, decoder->name, name);
    } else {
        status = table_get(decoder, index, name, value);
        if (!status) {
            memcpy(decoder->name, name->bytes, name->len);
            name->bytes = decoder->name;
        }
    }
    return status ? status : read_string(in, decoder->value, value);
}

static int read_size_update(struct pbs_hpack *decoder, struct reader *in)
{
    uint64_t limit;
    int status = read_integer(in, 5, &limit);
    if (status)
        return status;
    if (limit > PBS_HPACK_TABLE_SIZE)
        return PBS_E_PROTOCOL;
    decoder->limit = (uint32_t)limit;
    evict_to(decoder, decoder->limit);
    return PBS_OK;
}

int pbs_hpack_decode(struct pbs_hpack *decoder, const uint8_t *block, size_t len,
                     pbs_hpack_header *on_header, void *context)
{
    struct reader in = {block, block + len};
    int headers_seen = 0;

    while (in.at < in.end) {
        uint8_t byte = *in.at;
        struct text name, value;
        uint64_t index;
        int status;

        if (byte & 0x80) { /* indexed */
            status = read_integer(&in, 7, &index);
            if (!status)
                status = table_get(decoder, index, &name, &value);
        } else if (byte & 0x40) { /* literal, added to the table */
            status = read_literal(decoder, &in, 6, &name, &value);
            if (!status)
                status = table_add(decoder, name.bytes, name.len, value.bytes, value.len);
        } else if (byte & 0x20) {
            /* Only before the first header of a block (RFC 7541, 4.2). */
            status = headers_seen ? PBS_E_PROTOCOL : read_size_update(decoder, &in);
            if (!status)
                continue;
        } else { /* literal, not indexed or never to be */
            status = read_literal(decoder, &in, 4, &name, &value);
        }
        if (status)
            return status;
        headers_seen = 1;
        on_header(context, name.bytes, name.len, value.bytes, value.len);
    }
    return PBS_OK;
}

/* ---- encoding ---- */

static size_t write_integer(uint8_t *out, unsigned prefix_bits, uint8_t flags, size_t value)
{
    size_t n = 0;
    size_t mask = (1u << prefix_bits) - 1;

    if (value < mask) {
        out[n++] = (uint8_t)(flags | value);
        return n;
    }
    out[n++] = (uint8_t)(flags | mask);
    for (value -= mask; value >= 0x80; value >>= 7)
        out[n++] = (uint8_t)(0x80 | (value & 0x7f));
    out[n++] = (uint8_t)value;
    return n;
}

static size_t integer_size(unsigned prefix_bits, size_t value)
{
    uint8_t scratch[12];
    return write_integer(scratch, prefix_bits, 0, value);
}

size_t pbs_hpack_indexed(uint8_t *out, unsigned row)
{
    return write_integer(out, 7, 0x80, row);
}

size_t pbs_hpack_literal(uint8_t *out, unsigned row, const void *value, size_t len)
{
    size_t n = write_integer(out, 4, 0x00, row);
    n += write_integer(out + n, 7, 0x00, len);
    memcpy(out + n, value, len);
    return n + len;
}

size_t pbs_hpack_literal_size(unsigned row, size_t len)
{
    return integer_size(4, row) + integer_size(7, len) + len;
}
