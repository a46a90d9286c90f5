/*
 * Every call for memory, threads and descriptors fails once, and all from it on: nothing crashes,
 * nothing leaks (the address sanitizer looks), each failure is told as such, and what is still usable
 * afterwards is as it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "failing.h"
#include "pbs_digests.h"
#include "pbs_hpack.h"
#include "pbs_map.h"
#include "server.h"
#include "store.h"

/* What a run is about may do until it is told of a failure; then it has to end, or go on without. */
typedef void scenario(void);

static int told; /* of a failure, in this run */

/* A status that says either that all is well or that a call has failed. */
static int well(int status)
{
    if (status == PBS_OK)
        return 1;
    CHECK_EQUAL(status, PBS_E_NOMEM);
    CHECK(failing_has());
    told = 1;
    return 0;
}

/* Let the n-th call fail, and then from the n-th call on all, for every n that there is. */
static void for_every_call(scenario *run)
{
    long n = 0;
    for (int forever = 0; forever < 2; forever++)
        for (n = 1;; n++) {
            told = 0;
            failing_from(n, forever ? LONG_MAX : n);
            run();
            int has_failed = failing_has();
            failing_from(0, 0);
            if (!has_failed)
                break;
        }
    printf("    %ld calls\n", n - 1);
    CHECK(n > 1);
}

/* ---- digests ---- */

enum { DIGESTS = 700 };
static uint8_t rows[DIGESTS * 32];

static void check_members(struct pbs_digests *set, size_t all_below)
{
    struct pbs_digests_stats stats;
    uint8_t found[DIGESTS];
    size_t n = 0;
    CHECK_EQUAL(pbs_digests_contains(set, pbs_all((struct pbs_rows){rows, 32, DIGESTS}), found),
                PBS_OK);
    pbs_digests_measure(set, &stats);
    for (size_t i = 0; i < DIGESTS; i++) {
        n += found[i];
        CHECK(found[i] || i >= all_below);
    }
    CHECK_EQUAL(n, stats.count);
}

static void digests_are_kept(void)
{
    static const uint8_t key[PBS_DIGESTS_KEY_SIZE] = {1, 2, 3};
    struct pbs_digests *set;
    size_t added, batch = 0;
    if (!well(pbs_digests_new(key, 10, NULL, &set)))
        return;
    /* Every other one, so that each batch is a segment of its own; then those between. */
    for (size_t at = 0; at + batch <= DIGESTS; at += 2 * batch) {
        batch = 5 + at / 4;
        size_t n = at + batch <= DIGESTS ? batch : DIGESTS - at;
        struct pbs_rows some = {rows + 32 * at, 32, n};
        if (!well(pbs_digests_insert(set, pbs_all(some), NULL, NULL, &added)))
            check_members(set, 0);
    }
    /* Whatever has failed before, all of them are in it now. */
    while (!well(pbs_digests_insert(set, pbs_all((struct pbs_rows){rows, 32, DIGESTS}), NULL, NULL,
                                    &added))) {
        check_members(set, 0);
        if (failing.last == LONG_MAX)
            failing_from(1, 0); /* has failed, and will not again */
    }
    check_members(set, DIGESTS);
    pbs_digests_free(set);
}

/* ---- HPACK ---- */

static void on_header(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len)
{
    (void)name, (void)value;
    *(size_t *)context += name_len + value_len;
}

static void headers_are_decoded(void)
{
    struct pbs_hpack *decoder;
    size_t seen = 0;
    if (!well(pbs_hpack_new(&decoder)))
        return;
    for (int i = 0; i < 20; i++) {
        /* "name: value" into the table, many times over: old ones go. */
        uint8_t block[4 + 300] = {0x40, 1, 'a', 0x7f, 0x80, 0x01};
        memset(block + 6, 'v', 255);
        if (!well(pbs_hpack_decode(decoder, block, 6 + 255, on_header, &seen)))
            break;
    }
    CHECK(told || seen == 20 * 256);
    pbs_hpack_free(decoder);
}

/* ---- a connection ---- */

static int try_call(struct pbs_h2 *h2, uint32_t tag, const char *method, size_t body_len,
                    enum pbs_h2_answer_mode mode, size_t part_size, int once)
{
    struct pbs_h2_message *message;
    uint8_t *body;
    struct pbs_h2_call wanted = {.method = method,
                                 .authority = AUTHORITY,
                                 .path = "/p",
                                 .mode = mode,
                                 .max_body = 20000,
                                 .part_size = part_size,
                                 .tag = tag,
                                 .once = once};
    if (!well(pbs_h2_message_new(&wanted, body_len, &message, &body)))
        return 0;
    if (body_len)
        memset(body, 'b', body_len);
    pbs_h2_submit(h2, message, body_len);
    return 1;
}

/* A server that does all that makes the client remember something. */
static void put_answers(struct wire *in)
{
    static const uint8_t with_table[] = "\x88\x40\x01n\x05value\x40\x01m\x05value";
    uint8_t body[3000];
    memset(body, 'x', sizeof body);
    put_setting(in, WINDOW_SETTING, 1 << 20);
    put_frame(in, PING, 0, 0, "pingping", 8);
    put_u32(in, RESET, 1, 7); /* refused: made again as stream 11 */
    put_frame(in, HEADERS, 0, 3, with_table, 1);
    put_frame(in, CONTINUATION, END_HEADERS, 3, with_table + 1, sizeof with_table - 2);
    put_frame(in, DATA, 0, 3, body, sizeof body);
    put_frame(in, DATA, END_STREAM, 3, body, 10);
    put_status(in, 0, 5, 200);
    for (int i = 0; i < 4; i++)
        put_frame(in, DATA, 0, 5, body, sizeof body);
    put_frame(in, DATA, END_STREAM, 5, body, 1);
    put_status(in, 0, 7, 200);
    put_status(in, 0, 9, 500);
    put_frame(in, DATA, END_STREAM, 9, "why", 3);
}

static void read_answers(struct pbs_h2 *h2, size_t *count)
{
    struct pbs_h2_answer answer;
    while (pbs_h2_next_answer(h2, &answer)) {
        *count += !answer.is_part;
        CHECK(answer.tag < 6 && answer.body_len <= 20000);
        free(answer.body);
    }
}

/* In pieces, so that a part of a frame is kept now and then. Returns whether all was taken. */
static int take_in_pieces(struct pbs_h2 *h2, const struct wire *in, size_t piece)
{
    int status = PBS_OK;
    for (size_t at = 0; at < in->len && !status; at += piece) {
        size_t n = in->len - at < piece ? in->len - at : piece;
        status = receive(h2, in->bytes + at, n);
    }
    if (well(status))
        return 1;
    const uint8_t *out;
    size_t len;
    CHECK_EQUAL(receive(h2, in->bytes, 1), PBS_E_NOMEM); /* it stays so */
    CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &out, &len), PBS_E_NOMEM);
    CHECK(pbs_h2_error(h2)[0] == '\0');
    return 0;
}

static void converse(struct pbs_h2 *h2)
{
    struct wire in = {0};
    size_t answers = 0;
    int all = try_call(h2, 0, "PUT", 30000, PBS_H2_COLLECT, 0, 0) &&
              try_call(h2, 1, "GET", 0, PBS_H2_COLLECT, 1000, 0) &&
              try_call(h2, 2, "GET", 0, PBS_H2_DOWNLOAD, 5000, 0) &&
              try_call(h2, 3, "GET", 0, PBS_H2_DISCARD, 0, 0) &&
              try_call(h2, 4, "POST", 2000, PBS_H2_COLLECT, 0, 1) && well(send_everything(h2));
    if (all) {
        put_answers(&in);
        all = take_in_pieces(h2, &in, 700) && well(send_everything(h2));
        read_answers(h2, &answers);
    }
    if (all) {
        CHECK_EQUAL(answers, 4);
        in.len = 0;
        put_status(&in, 0, 11, 200);
        put_frame(&in, GOAWAY, 0, 0, "\0\0\0\x09\0\0\0\0", 8); /* leaves stream 11 out */
        all = take_in_pieces(h2, &in, SIZE_MAX) && well(send_everything(h2));
        read_answers(h2, &answers);
        CHECK(!all || answers == 5);
    }
    CHECK(all || told);
    read_answers(h2, &answers);
    free(in.bytes);
}

static void a_connection_ends(void)
{
    struct pbs_h2_options options = {4096, 4096};
    struct pbs_h2 *h2;
    if (!well(pbs_h2_new(&options, &h2)))
        return;
    converse(h2);
    pbs_h2_free(h2);
}

/* ---- uploads ---- */

enum { FILES = 6 };
static struct store store;

static struct pbs_shared *shared; /* of the uploads, if any */

static int new_upload(struct pbs_upload **out)
{
    struct pbs_upload_options options = {
        .chunks_fd = store.fd, .readers = 3, .authority = AUTHORITY, .shared = shared};
    int status = pbs_upload_new(&options, out);
    if (status == PBS_E_IO && failing_has()) /* no descriptor for the event */
        return 0;
    return well(status);
}

static void add_all(struct pbs_upload *upload)
{
    struct pbs_upload_archive archive = {.index = fixed_index(rows, FILES, 4096, FILES * 4096),
                                         .writer_id = 1};
    uint32_t positions[FILES] = {0, 1, 2, 3, 4, 5};
    size_t added = 0;
    int is_well = well(pbs_upload_add(upload, &archive, positions, FILES, &added));
    CHECK_EQUAL(added, FILES);
    if (is_well)
        return;
    /* There was no thread: the jobs wait for one that the next call gets. */
    failing_from(1, 0);
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, 1, &added), PBS_OK);
}

static void uploads_end(void)
{
    struct pbs_h2_options options = {4096, 300000};
    struct pbs_upload *upload;
    struct pbs_h2 *h2;
    if (!new_upload(&upload))
        return;
    add_all(upload);
    if (well(pbs_h2_new(&options, &h2))) {
        pbs_h2_attach(h2, upload);
        well(serve_uploads(h2, upload, NULL));
        pbs_h2_free(h2);
    }
    pbs_upload_free(upload);
}

/* Where there is no memory to share, chunks are read by who needs them. */
static void shared_uploads_end(void)
{
    static const uint8_t key[PBS_SHARED_KEY_SIZE] = {1, 2, 3};
    if (!well(pbs_shared_new(key, 1 << 20, 2, &shared)))
        return;
    uploads_end();
    pbs_shared_free(shared);
    shared = NULL;
}

/* ---- files ---- */

static void a_file_is_mapped(void)
{
    struct pbs_map map;
    int reason = 0;
    int status = pbs_map_open(store.fd, "mapped", &map, &reason);
    if (status) {
        CHECK(status == PBS_E_IO && reason == ENOMEM && failing_has());
        return;
    }
    CHECK(map.length == 10 && map.base[9] == 'x');
    pbs_map_close(&map);
}

static void make_files(void)
{
    uint64_t seed = 20261128;
    fill_random(&seed, rows, sizeof rows);
    store = store_new();
    for (size_t i = 0; i < FILES; i++) {
        size_t size = 1000 + 30000 * i;
        uint8_t *file = allocate(size);
        fill_random(&seed, file, size);
        make_blob(file, size, PBS_BLOB_ZSTD);
        store_put(&store, rows + 32 * i, file, size);
        free(file);
    }
    int fd = openat(store.fd, "mapped", O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, "xxxxxxxxxx", 10) == 10 && close(fd) == 0);
}

#define RUN_FOR_EVERY_CALL(run) \
    do {                        \
        printf("  %s\n", #run); \
        fflush(stdout);         \
        for_every_call(run);    \
    } while (0)

int main(void)
{
    make_files();
    RUN_FOR_EVERY_CALL(digests_are_kept);
    RUN_FOR_EVERY_CALL(headers_are_decoded);
    RUN_FOR_EVERY_CALL(a_connection_ends);
    RUN_FOR_EVERY_CALL(uploads_end);
    RUN_FOR_EVERY_CALL(shared_uploads_end);
    RUN_FOR_EVERY_CALL(a_file_is_mapped);
    store_free(&store);
    return 0;
}
