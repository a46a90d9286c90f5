#include "pbs_hpack.h"

#include <string.h>

#include "check.h"
#include "pbs_error.h"

static uint64_t seed = 20261123;

/* What a block decoded to: "name: value\n" for each header. */
struct text {
    char bytes[8192];
    size_t len;
};

static void put(struct text *text, const void *bytes, size_t len)
{
    CHECK(text->len + len < sizeof text->bytes);
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
}

static void collect(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                    size_t value_len)
{
    put(context, name, name_len);
    put(context, ": ", 2);
    put(context, value, value_len);
    put(context, "\n", 1);
}

/* Reads what it is given, so that the sanitizer sees borrowed memory that is none. */
static void look(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                 size_t value_len)
{
    unsigned *sum = context;
    for (size_t i = 0; i < name_len; i++)
        *sum += name[i];
    for (size_t i = 0; i < value_len; i++)
        *sum += value[i];
}

static struct pbs_hpack *new_decoder(void)
{
    struct pbs_hpack *decoder = NULL;
    CHECK_EQUAL(pbs_hpack_new(&decoder), PBS_OK);
    return decoder;
}

static int decode(struct pbs_hpack *decoder, const void *block, size_t len, struct text *out)
{
    uint8_t *exact = allocate(len);
    memcpy(exact, block, len);
    out->len = 0;
    int status = pbs_hpack_decode(decoder, exact, len, collect, out);
    out->bytes[out->len] = '\0';
    free(exact);
    return status;
}

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (; *hex; hex += *hex == ' ' ? 1 : 2) {
        unsigned byte;
        if (*hex == ' ')
            continue;
        CHECK(sscanf(hex, "%2x", &byte) == 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}

static void expect(struct pbs_hpack *decoder, const char *hex, const char *headers)
{
    uint8_t block[512];
    struct text out;
    size_t len = from_hex(hex, block);
    CHECK_EQUAL(decode(decoder, block, len, &out), PBS_OK);
    if (strcmp(out.bytes, headers) != 0)
        fprintf(stderr, "%s decodes to:\n%s", hex, out.bytes);
    CHECK(strcmp(out.bytes, headers) == 0);
}

static int status_of(const char *hex)
{
    uint8_t block[512];
    struct text out;
    struct pbs_hpack *decoder = new_decoder();
    int status = decode(decoder, block, from_hex(hex, block), &out);
    pbs_hpack_free(decoder);
    return status;
}

/* RFC 7541, C.2 to C.4: literals with and without Huffman, and the table that they build. */
static void requests_of_the_rfc_decode(void)
{
    struct pbs_hpack *decoder = new_decoder();
    expect(decoder, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
           "custom-key: custom-header\n");
    expect(decoder, "be", "custom-key: custom-header\n");
    expect(decoder, "040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n");
    expect(decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n");
    expect(decoder, "82", ":method: GET\n");
    pbs_hpack_free(decoder);

    decoder = new_decoder();
    expect(decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
           ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n");
    expect(decoder, "8286 84be 5886 a8eb 1064 9cbf",
           ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
           "cache-control: no-cache\n");
    expect(decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
           ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n"
           "custom-key: custom-value\n");
    pbs_hpack_free(decoder);
}

/* RFC 7541, C.6, with its table of 256 bytes: entries are evicted. */
static void answers_of_the_rfc_decode(void)
{
    struct pbs_hpack *decoder = new_decoder();
    expect(decoder,
           "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6"
           "2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
           ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"
           "location: https://www.example.com\n");
    expect(decoder, "4883 640e ffc1 c0bf",
           ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n"
           "location: https://www.example.com\n");
    expect(decoder,
           "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad"
           "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160"
           "65c0 03ed 4ee5 b106 3d50 07",
           ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n"
           "location: https://www.example.com\ncontent-encoding: gzip\n"
           "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n");
    pbs_hpack_free(decoder);
}

static void what_is_no_hpack_is_refused(void)
{
    CHECK_EQUAL(status_of(""), PBS_OK);
    CHECK_EQUAL(status_of("80"), PBS_E_PROTOCOL); /* index 0 */
    CHECK_EQUAL(status_of("be"), PBS_E_PROTOCOL); /* the table is empty */
    CHECK_EQUAL(status_of("ff"), PBS_E_PROTOCOL); /* half an integer */
    CHECK_EQUAL(status_of("ffffffffffffffff7f"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("ff808080808000"), PBS_E_PROTOCOL);  /* zeros without end */
    CHECK_EQUAL(status_of("00"), PBS_E_PROTOCOL);              /* no name */
    CHECK_EQUAL(status_of("000161"), PBS_E_PROTOCOL);          /* no value */
    CHECK_EQUAL(status_of("0003616263 0461"), PBS_E_PROTOCOL); /* longer than the block */
    CHECK_EQUAL(status_of("0001 61 7fffffffff0f"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("3fe11f"), PBS_OK);         /* table of 4,096 */
    CHECK_EQUAL(status_of("3fe21f"), PBS_E_PROTOCOL); /* of 4,097 */
    CHECK_EQUAL(status_of("2020"), PBS_OK);
    CHECK_EQUAL(status_of("8220"), PBS_E_PROTOCOL); /* a size behind a header */
    /* Huffman: padding of 8 ones, of zeros, EOS itself, and a code cut short. */
    CHECK_EQUAL(status_of("0481 ff"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("0481 18"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("0481 1f"), PBS_OK); /* "a" */
    CHECK_EQUAL(status_of("0482 1fff"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("0484 fffffffc"), PBS_E_PROTOCOL);
    CHECK_EQUAL(status_of("0484 ffffffff"), PBS_E_PROTOCOL);
}

/* A long string is refused before it is written anywhere, plain and coded. */
static void strings_have_a_limit(void)
{
    const size_t lengths[] = {PBS_HPACK_STRING_MAX, PBS_HPACK_STRING_MAX + 1};
    for (int i = 0; i < 2; i++) {
        struct pbs_hpack *decoder = new_decoder();
        size_t size = pbs_hpack_literal_size(PBS_HPACK_PATH, lengths[i]);
        uint8_t *value = allocate(lengths[i]);
        uint8_t *block = allocate(size);
        unsigned sum = 0;
        memset(value, 'x', lengths[i]);
        CHECK_EQUAL(pbs_hpack_literal(block, PBS_HPACK_PATH, value, lengths[i]), size);
        CHECK_EQUAL(pbs_hpack_decode(decoder, block, size, look, &sum),
                    i ? PBS_E_TOO_LARGE : PBS_OK);
        pbs_hpack_free(decoder);
        free(block);
        free(value);
    }
    /* '0' is five bits of zeros, so 5/8 of the limit in zeros are just as many. */
    size_t len = (PBS_HPACK_STRING_MAX + 8) / 8 * 5;
    uint8_t *block = allocate(len + 4);
    struct pbs_hpack *decoder = new_decoder();
    unsigned sum = 0;
    memset(block, 0, len + 4);
    block[0] = 0x04;
    block[1] = 0xff;
    block[2] = (uint8_t)(0x80 | ((len - 127) & 0x7f));
    block[3] = (uint8_t)((len - 127) >> 7);
    CHECK_EQUAL(pbs_hpack_decode(decoder, block, len + 4, look, &sum), PBS_E_TOO_LARGE);
    pbs_hpack_free(decoder);
    free(block);
}

static void the_table_evicts_its_oldest(void)
{
    struct pbs_hpack *decoder = new_decoder();
    struct text out;
    char expected[16];
    for (unsigned i = 0; i < 300; i++) {
        uint8_t block[] = {0x40, 1, (uint8_t)('a' + i % 26), 1, (uint8_t)('0' + i % 10)};
        CHECK_EQUAL(decode(decoder, block, sizeof block, &out), PBS_OK);
    }
    /* 4096 / 34 = 120 entries; the oldest is number 180. */
    for (unsigned back = 0; back < 120; back++) {
        uint8_t block[2] = {0xff, 0};
        unsigned index = 62 + back, i = 299 - back;
        size_t len = index < 127 ? 1 : 2;
        block[0] = (uint8_t)(index < 127 ? 0x80 | index : 0xff);
        block[1] = (uint8_t)(index - 127);
        CHECK_EQUAL(decode(decoder, block, len, &out), PBS_OK);
        snprintf(expected, sizeof expected, "%c: %c\n", 'a' + (int)(i % 26), '0' + (int)(i % 10));
        CHECK(strcmp(out.bytes, expected) == 0);
    }
    CHECK_EQUAL(decode(decoder, "\xff\x37", 2, &out), PBS_E_PROTOCOL); /* the 121st */
    pbs_hpack_free(decoder);
}

/* An entry larger than the table is legal, is told, and empties the table. */
static void a_large_entry_empties_the_table(void)
{
    struct pbs_hpack *decoder = new_decoder();
    struct text out;
    uint8_t block[6 + 4096] = {0x40, 1, 'n', 0x7f, 0x81, 0x1f}; /* 127 + 1 + 31 * 128 = 4,096 */
    memset(block + 6, 'v', 4096);
    CHECK_EQUAL(decode(decoder, "\x40\x01n\x01v", 5, &out), PBS_OK);
    CHECK_EQUAL(decode(decoder, "\xbe", 1, &out), PBS_OK);
    CHECK_EQUAL(decode(decoder, block, sizeof block, &out), PBS_OK);
    CHECK_EQUAL(out.len, 1 + 2 + 4096 + 1);
    CHECK_EQUAL(decode(decoder, "\xbe", 1, &out), PBS_E_PROTOCOL);
    pbs_hpack_free(decoder);
}

/* The name of the entry that is evicted by adding the very header that it names. */
static void a_name_outlives_its_eviction(void)
{
    struct pbs_hpack *decoder = new_decoder();
    struct text out;
    uint8_t name[60];
    uint8_t block[200] = {0x3f, 0x61, 0x40, sizeof name}; /* a table of 31 + 97 = 128 bytes */
    memset(name, 'n', sizeof name);
    memcpy(block + 4, name, sizeof name);
    block[4 + sizeof name] = 1;
    block[5 + sizeof name] = 'v';
    CHECK_EQUAL(decode(decoder, block, 6 + sizeof name, &out), PBS_OK);
    /* A name by index 62, whose entry of 93 bytes must go for one of 102. */
    uint8_t again[] = {0x7e, 10, '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'};
    CHECK_EQUAL(decode(decoder, again, sizeof again, &out), PBS_OK);
    CHECK(out.len == 60 + 2 + 10 + 1 && memcmp(out.bytes, name, 60) == 0);
    CHECK_EQUAL(decode(decoder, "\xbe", 1, &out), PBS_OK);
    CHECK(out.len == 60 + 2 + 10 + 1 && memcmp(out.bytes, name, 60) == 0);
    pbs_hpack_free(decoder);
}

static void what_is_encoded_decodes(void)
{
    const size_t lengths[] = {0, 1, 126, 127, 128, 254, 255, 5000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct pbs_hpack *decoder = new_decoder();
        struct text out;
        uint8_t block[5100];
        char value[5001], expected[5100];
        memset(value, 'p', lengths[i]);
        value[lengths[i]] = '\0';
        size_t len = pbs_hpack_indexed(block, PBS_HPACK_METHOD_POST);
        len += pbs_hpack_indexed(block + len, PBS_HPACK_SCHEME_HTTPS);
        CHECK_EQUAL(pbs_hpack_literal_size(PBS_HPACK_CONTENT_TYPE, lengths[i]),
                    pbs_hpack_literal(block + len, PBS_HPACK_CONTENT_TYPE, value, lengths[i]));
        len += pbs_hpack_literal_size(PBS_HPACK_CONTENT_TYPE, lengths[i]);
        CHECK_EQUAL(decode(decoder, block, len, &out), PBS_OK);
        snprintf(expected, sizeof expected, ":method: POST\n:scheme: https\ncontent-type: %s\n",
                 value);
        CHECK(strcmp(out.bytes, expected) == 0);
        pbs_hpack_free(decoder);
    }
}

static void any_bytes_are_decoded_or_refused(void)
{
    static const char valid[] =
        "\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8"
        "\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x40\x01n\x01v\xbe\xbf";
    unsigned sum = 0;
    for (int round = 0; round < 20000; round++) {
        struct pbs_hpack *decoder = new_decoder();
        int status = PBS_OK;
        for (int i = 0; i < 4 && !status; i++) {
            size_t len = round % 2 ? next_random(&seed) % 200 : sizeof valid - 1;
            uint8_t *block = allocate(len);
            if (round % 2)
                fill_random(&seed, block, len);
            else
                memcpy(block, valid, len);
            for (int change = 0; len && change < 1 + i; change++)
                block[next_random(&seed) % len] ^= (uint8_t)(1u << next_random(&seed) % 8);
            status = pbs_hpack_decode(decoder, block, len, look, &sum);
            CHECK(status == PBS_OK || status == PBS_E_PROTOCOL || status == PBS_E_TOO_LARGE);
            free(block);
        }
        pbs_hpack_free(decoder);
    }
}

int main(void)
{
    RUN(requests_of_the_rfc_decode);
    RUN(answers_of_the_rfc_decode);
    RUN(what_is_no_hpack_is_refused);
    RUN(strings_have_a_limit);
    RUN(the_table_evicts_its_oldest);
    RUN(a_large_entry_empties_the_table);
    RUN(a_name_outlives_its_eviction);
    RUN(what_is_encoded_decodes);
    RUN(any_bytes_are_decoded_or_refused);
    pbs_hpack_free(NULL);
    return 0;
}
