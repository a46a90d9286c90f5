#define _GNU_SOURCE
#include "pbs_upload.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>

#include "check.h"
#include "pbs_error.h"
#include "pbs_hpack.h"
#include "store.h"

/* Chunk files of many sizes; jobs name them again and again. */
#define FILES 40
#define AUTHORITY "target.example:8007"
#define PATIENCE_MS 60000 /* only a lost wake-up is waited for that long */

static uint64_t seed = 20261126;
static struct store store;
static uint8_t digests[FILES * 32];
static uint8_t *files[FILES];
static size_t sizes[FILES];

static void make_files(void)
{
    fill_random(&seed, digests, sizeof digests);
    for (size_t i = 0; i < FILES; i++) {
        sizes[i] = 13 + next_random(&seed) % (i % 4 ? 3000 : 700000);
        files[i] = allocate(sizes[i]);
        fill_random(&seed, files[i], sizes[i]);
        make_blob(files[i], sizes[i], PBS_BLOB_ZSTD);
        store_put(&store, digests + 32 * i, files[i], sizes[i]);
    }
}

static struct pbs_upload_archive archive_of_files(void)
{
    return (struct pbs_upload_archive){
        .index = fixed_index(digests, FILES, 4096, (uint64_t)FILES * 4096 - 1), .writer_id = 7};
}

static struct pbs_upload *new_upload(unsigned readers, size_t buffer_bytes)
{
    struct pbs_upload_options options = {
        .chunks_fd = store.fd,
        .readers = readers,
        .buffer_bytes = buffer_bytes,
        .authority = AUTHORITY,
    };
    struct pbs_upload *upload = NULL;
    CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_OK);
    return upload;
}

static void add(struct pbs_upload *upload, const uint32_t *positions, size_t n)
{
    struct pbs_upload_archive archive = archive_of_files();
    size_t added = 0;
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, n, &added), PBS_OK);
    CHECK_EQUAL(added, n);
}

static int event_within(const struct pbs_upload *upload, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = pbs_upload_event_fd(upload), .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms);
}

/* The next piece, waiting for it as a sender does. 0: reading has failed. */
static int wait_for_piece(struct pbs_upload *upload, struct pbs_upload_piece *piece)
{
    struct pbs_upload_failure failure;
    for (;;) {
        pbs_upload_clear_event(upload);
        if (pbs_upload_next(upload, NULL, piece))
            return 1;
        if (pbs_upload_failed(upload, &failure))
            return 0;
        CHECK_EQUAL(event_within(upload, PATIENCE_MS), 1);
    }
}

struct request {
    char text[512];
    size_t len;
};

static void take_header(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                        size_t value_len)
{
    struct request *request = context;
    int n = snprintf(request->text + request->len, sizeof request->text - request->len,
                     "%.*s=%.*s ", (int)name_len, (const char *)name, (int)value_len,
                     (const char *)value);
    request->len += (size_t)n;
    CHECK(request->len < sizeof request->text);
}

/* The piece is a HEADERS frame for the chunk's request, room, and the chunk file. */
static void check_piece(const struct pbs_upload_piece *piece, size_t file)
{
    const uint8_t *start = piece->message.start;
    size_t block = piece->message.head_len - PBS_FRAME_HEADER;
    struct request request = {.len = 0};
    char expected[512], hex[65] = "";
    struct pbs_hpack *hpack;

    CHECK_EQUAL(pbs_load_be24(start), block);
    CHECK(start[3] == 1 && start[4] == 4 && pbs_load_be32(start + 5) == 0);
    CHECK_EQUAL(pbs_hpack_new(&hpack), PBS_OK);
    CHECK_EQUAL(pbs_hpack_decode(hpack, start + PBS_FRAME_HEADER, block, take_header, &request),
                PBS_OK);
    pbs_hpack_free(hpack);
    pbs_digest_hex(digests + 32 * file, hex);
    snprintf(expected, sizeof expected,
             ":method=POST :scheme=https :authority=" AUTHORITY
             " :path=/fixed_chunk?wid=7&digest=%s&size=%d&encoded-size=%zu"
             " content-type=application/octet-stream ",
             hex, file == FILES - 1 ? 4095 : 4096, sizes[file]);
    CHECK(strcmp(request.text, expected) == 0);
    CHECK_EQUAL(piece->message.body_len, sizes[file]);
    CHECK(memcmp(start + piece->message.head_len + PBS_FRAME_HEADER, files[file], sizes[file]) ==
          0);
}

/* Give the piece that lies there a header as the sender does, over its own bytes, and back. */
static void scribble(const struct pbs_upload_piece *piece)
{
    uint8_t *body = piece->message.start + piece->message.head_len + PBS_FRAME_HEADER;
    memset(body, 0xee, piece->message.body_len);
}

/* A sender that keeps a random number of pieces out and gives them back in any order: every chunk
 * comes whole and once, and stays whole while it is out, also where the ring wraps. */
static void chunks_come_whole_in_any_order(void)
{
    enum { JOBS = 1200, OUT = 60 };
    static uint32_t positions[JOBS];
    static uint8_t seen[JOBS];
    const unsigned readers[] = {1, 2, 8, 3, 4};
    const size_t bounds[] = {0, 0, 0, 1 << 20, 1};

    for (int round = 0; round < 5; round++) {
        size_t bound = bounds[round], held = 0;
        struct pbs_upload *upload = new_upload(readers[round], bound);
        struct pbs_upload_piece out[OUT];
        size_t n_out = 0, arrived = 0, added = 0;
        memset(seen, 0, sizeof seen);
        for (size_t i = 0; i < JOBS; i++)
            positions[i] = (uint32_t)(next_random(&seed) % FILES);
        while (arrived < JOBS || n_out) {
            size_t more = next_random(&seed) % 200;
            more = more < JOBS - added ? more : JOBS - added;
            if (more) {
                add(upload, positions + added, more);
                added += more;
            }
            /* Waiting with pieces out could be for ever: one of them may be what blocks the ring. */
            struct pbs_upload_piece *piece = &out[n_out];
            if (arrived < added && n_out < OUT && next_random(&seed) % 3 &&
                (n_out ? pbs_upload_next(upload, NULL, piece) : wait_for_piece(upload, piece))) {
                n_out++;
                held += piece->message.body_len;
                CHECK(!bound || held <= bound || n_out == 1);
                CHECK(piece->job < added && !seen[piece->job]++);
                check_piece(piece, positions[piece->job]);
                arrived++;
            } else if (n_out) {
                size_t which = next_random(&seed) % n_out;
                check_piece(&out[which], positions[out[which].job]);
                scribble(&out[which]);
                held -= out[which].message.body_len;
                pbs_upload_release(upload, out[which].slot);
                pbs_upload_acknowledge(upload, out[which].job);
                out[which] = out[--n_out];
            }
        }
        CHECK_EQUAL(pbs_upload_added(upload), JOBS);
        CHECK_EQUAL(pbs_upload_acknowledged(upload), JOBS);
        pbs_upload_free(upload);
    }
}

static void small_chunks_lie_back_to_back(void)
{
    struct pbs_upload *upload = new_upload(1, 0);
    struct pbs_upload_piece piece;
    uint32_t positions[] = {1, 2, 3};
    add(upload, positions, 3);
    const uint8_t *end = NULL;
    for (int i = 0; i < 3; i++) {
        /* With all of them read by one reader in a row, the next lies right behind. */
        while (!pbs_upload_next(upload, end, &piece))
            CHECK_EQUAL(event_within(upload, PATIENCE_MS), 1);
        CHECK(end == NULL || piece.message.start == end);
        CHECK(!pbs_upload_next(upload, end ? end : piece.message.start + 1, &piece));
        end = piece.message.start + piece.message.head_len + PBS_FRAME_HEADER +
              piece.message.body_len;
    }
    pbs_upload_free(upload);
}

static void the_acknowledged_prefix_has_no_holes(void)
{
    struct pbs_upload *upload = new_upload(2, 0);
    struct pbs_upload_piece piece;
    uint32_t positions[] = {1, 2, 3, 4};
    uint8_t digest[32];
    add(upload, positions, 4);
    for (int i = 0; i < 4; i++)
        CHECK(wait_for_piece(upload, &piece));
    const uint64_t order[] = {2, 1, 3, 0}, prefix[] = {0, 0, 0, 4};
    for (int i = 0; i < 4; i++) {
        pbs_upload_acknowledge(upload, order[i]);
        CHECK_EQUAL(pbs_upload_acknowledged(upload), prefix[i]);
        if (i == 0) {
            CHECK_EQUAL(pbs_upload_digest(upload, 1, digest), PBS_OK);
            CHECK(memcmp(digest, digests + 32 * 2, 32) == 0);
            CHECK_EQUAL(pbs_upload_digest(upload, 4, digest), PBS_E_INVALID);
        }
    }
    CHECK_EQUAL(pbs_upload_digest(upload, 3, digest), PBS_E_INVALID);
    pbs_upload_free(upload);
}

/* Thousands of jobs with one chunk file: the tables of jobs and slots are full, and go round. */
static void there_is_a_bound_to_jobs_and_to_slots(void)
{
    enum { MANY = 40000, BOUND = 16384 };
    uint32_t *positions = allocate(MANY * sizeof *positions);
    struct pbs_upload_archive archive = archive_of_files();
    struct pbs_upload *upload = new_upload(2, 0);
    struct pbs_upload_piece piece;
    size_t added = 0, total = 0, done = 0;

    for (size_t i = 0; i < MANY; i++)
        positions[i] = 1;
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, MANY, &added), PBS_OK);
    CHECK_EQUAL(added, BOUND);
    for (total = added; done < MANY; done++) {
        CHECK(wait_for_piece(upload, &piece));
        if (done % 4096 == 0)
            check_piece(&piece, 1);
        pbs_upload_release(upload, piece.slot);
        pbs_upload_acknowledge(upload, piece.job);
        CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, MANY - total, &added), PBS_OK);
        total += added;
        CHECK(total - pbs_upload_acknowledged(upload) <= BOUND);
    }
    CHECK_EQUAL(pbs_upload_acknowledged(upload), MANY);
    pbs_upload_free(upload);
    free(positions);
}

static void refused_uploads_are_read_again(void)
{
    enum { JOBS = 300 };
    uint32_t positions[JOBS];
    unsigned left[JOBS];
    struct pbs_upload *upload = new_upload(4, 0);
    size_t done = 0;
    for (size_t i = 0; i < JOBS; i++) {
        positions[i] = (uint32_t)(i % FILES);
        left[i] = next_random(&seed) % 4;
    }
    add(upload, positions, JOBS);
    while (done < JOBS) {
        struct pbs_upload_piece piece;
        CHECK(wait_for_piece(upload, &piece));
        check_piece(&piece, positions[piece.job]);
        pbs_upload_release(upload, piece.slot);
        if (left[piece.job]) {
            left[piece.job]--;
            pbs_upload_again(upload, piece.job);
        } else {
            pbs_upload_acknowledge(upload, piece.job);
            done++;
        }
    }
    CHECK_EQUAL(pbs_upload_acknowledged(upload), JOBS);
    pbs_upload_free(upload);
}

static void the_event_comes_once(void)
{
    struct pbs_upload *upload = new_upload(1, 0);
    struct pbs_upload_piece piece;
    uint32_t position = 1;
    CHECK_EQUAL(event_within(upload, 0), 0);
    CHECK(!pbs_upload_next(upload, NULL, &piece));
    add(upload, &position, 1);
    CHECK_EQUAL(event_within(upload, PATIENCE_MS), 1);
    /* A sender that may not send now clears it and is not woken again. */
    pbs_upload_clear_event(upload);
    CHECK_EQUAL(event_within(upload, 0), 0);
    pbs_upload_clear_event(upload);
    CHECK(pbs_upload_next(upload, NULL, &piece));
    CHECK_EQUAL(event_within(upload, 0), 0);
    CHECK(!pbs_upload_next(upload, NULL, &piece));
    add(upload, &position, 1);
    CHECK_EQUAL(event_within(upload, PATIENCE_MS), 1);
    CHECK(pbs_upload_next(upload, NULL, &piece));
    CHECK(!pbs_upload_next(upload, NULL, &piece)); /* which clears it too */
    CHECK_EQUAL(event_within(upload, 0), 0);
    pbs_upload_free(upload);
}

static void bad_jobs_are_refused(void)
{
    struct pbs_upload_archive archive = archive_of_files();
    struct pbs_upload *upload = new_upload(1, 0);
    uint32_t positions[] = {0, FILES, 1};
    size_t added = 77;
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, 3, &added), PBS_E_INVALID);
    CHECK_EQUAL(added, 1);
    archive.index.chunk_size = (uint64_t)1 << 32;
    archive.index.size = (uint64_t)FILES << 32;
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, 1, &added), PBS_E_TOO_LARGE);
    CHECK_EQUAL(added, 0);
    pbs_upload_free(upload);

    char authority[2000];
    memset(authority, 'a', sizeof authority - 1);
    authority[sizeof authority - 1] = '\0';
    struct pbs_upload_options options = {.chunks_fd = store.fd, .authority = "a"};
    CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_E_INVALID);
    options.readers = 1;
    options.authority = authority;
    CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_E_TOO_LARGE);
    pbs_upload_free(NULL);
}

/* What a sender that does not wait for anything has in memory: one chunk to send, and one more. */
static void little_is_read_ahead_of_a_busy_sender(void)
{
    enum { SIZE = 4000000 };
    static const uint32_t positions[] = {0, 1, 2};
    uint8_t *file = allocate(SIZE), large[3 * 32];
    struct pbs_upload_piece pieces[3];
    struct pbs_upload_archive archive = {.index = fixed_index(large, 3, SIZE, 3 * SIZE)};
    struct pbs_upload *upload = new_upload(8, (size_t)64 << 20);
    size_t added;

    memset(file, 0, SIZE);
    make_blob(file, SIZE, PBS_BLOB_ZSTD);
    fill_random(&seed, large, sizeof large);
    for (size_t i = 0; i < 3; i++)
        store_put(&store, large + 32 * i, file, SIZE);
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, 3, &added), PBS_OK);
    for (size_t i = 0; i < 2; i++)
        CHECK(wait_for_piece(upload, &pieces[i]));
    poll(NULL, 0, 20);
    CHECK(!pbs_upload_next(upload, NULL, &pieces[2]));
    pbs_upload_release(upload, pieces[0].slot);
    CHECK(wait_for_piece(upload, &pieces[2]));
    CHECK(pieces[2].message.start == pieces[0].message.start);
    pbs_upload_free(upload);
    free(file);
}

static size_t count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    size_t n = 0;
    CHECK(tasks != NULL);
    for (struct dirent *entry = readdir(tasks); entry; entry = readdir(tasks))
        n += entry->d_name[0] != '.';
    closedir(tasks);
    return n;
}

/* ---- chunks that change on their way ---- */

#define MARGIN 32u

/* What the threads make of a chunk: every byte another one, behind a margin; of some, nothing. */
struct worker {
    struct pbs_upload *upload;
    pthread_t thread;
    size_t reads;
    size_t drops;
};

static int is_known(uint64_t job)
{
    return job % 5 == 3;
}

static void *change_chunks(void *argument)
{
    struct worker *worker = argument;
    struct pbs_reading reading;
    uint8_t digest[32];

    while (pbs_upload_take(worker->upload, &reading)) {
        if (pbs_upload_read(worker->upload, &reading) != PBS_OK)
            continue;
        worker->reads++;
        if (is_known(reading.number)) {
            worker->drops++;
            pbs_upload_drop(worker->upload, &reading);
            continue;
        }
        uint8_t *body = pbs_upload_body(&reading);
        memset(body, 'm', MARGIN);
        for (size_t i = MARGIN; i < reading.body_len; i++)
            body[i] ^= 0x5a;
        for (size_t i = 0; i < sizeof digest; i++)
            digest[i] = reading.job.digest[i] ^ 0x5a;
        pbs_upload_give(worker->upload, &reading, digest);
    }
    return NULL;
}

static void check_changed(const struct pbs_upload_piece *piece, size_t file)
{
    const uint8_t *start = piece->message.start;
    const uint8_t *body = start + piece->message.head_len + PBS_FRAME_HEADER;
    char hex[65] = "";
    uint8_t digest[32];

    CHECK_EQUAL(piece->message.body_len, MARGIN + sizes[file]);
    for (size_t i = 0; i < MARGIN; i++)
        CHECK_EQUAL(body[i], 'm');
    for (size_t i = 0; i < sizes[file]; i++)
        CHECK_EQUAL(body[MARGIN + i] ^ 0x5a, files[file][i]);
    for (size_t i = 0; i < sizeof digest; i++)
        digest[i] = digests[32 * file + i] ^ 0x5a;
    pbs_digest_hex(digest, hex);
    CHECK(memmem(start, piece->message.head_len, hex, 64) != NULL);
}

static void start_workers(struct worker *workers, size_t n, struct pbs_upload *upload)
{
    for (size_t i = 0; i < n; i++) {
        workers[i] = (struct worker){.upload = upload};
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, change_chunks, &workers[i]), 0);
    }
}

static void join_workers(struct worker *workers, size_t n, size_t *out_reads, size_t *out_drops)
{
    *out_reads = *out_drops = 0;
    for (size_t i = 0; i < n; i++) {
        CHECK_EQUAL(pthread_join(workers[i].thread, NULL), 0);
        *out_reads += workers[i].reads;
        *out_drops += workers[i].drops;
    }
}

/* Each is sent as it was changed and under the digest that it was given, or is not sent and counts
 * as acknowledged; what the target refuses is taken once more; and the bound holds. */
static void chunks_change_on_their_way(void)
{
    enum { JOBS = 600, MOST = 8 };
    static uint32_t positions[JOBS];
    const size_t n_workers[] = {1, 3, MOST}, bounds[] = {64 << 20, 3 << 20, 1};
    struct worker workers[MOST];

    for (int round = 0; round < 3; round++) {
        size_t reads, drops, to_refuse = 50, largest = 0, n = n_workers[round];
        struct pbs_upload *upload = new_upload(1, bounds[round]);
        pbs_upload_take_over(upload, MARGIN, bounds[round] / 2);
        size_t before = count_threads();
        for (size_t i = 0; i < JOBS; i++)
            positions[i] = (uint32_t)(next_random(&seed) % FILES);
        add(upload, positions, JOBS);
        CHECK_EQUAL(count_threads(), before); /* there are no readers of its own */
        start_workers(workers, n, upload);
        while (pbs_upload_acknowledged(upload) < JOBS) {
            struct pbs_upload_piece piece;
            pbs_upload_clear_event(upload);
            if (!pbs_upload_next(upload, NULL, &piece)) {
                event_within(upload, 50); /* drops move the prefix behind our back, too */
                continue;
            }
            CHECK(!is_known(piece.job));
            check_changed(&piece, positions[piece.job]);
            scribble(&piece);
            if (piece.message.body_len > largest)
                largest = piece.message.body_len;
            pbs_upload_release(upload, piece.slot);
            if (to_refuse) {
                to_refuse--;
                pbs_upload_again(upload, piece.job);
            } else {
                pbs_upload_acknowledge(upload, piece.job);
            }
        }
        pbs_upload_stop(upload);
        join_workers(workers, n, &reads, &drops);
        CHECK_EQUAL(reads, JOBS + 50);
        CHECK_EQUAL(drops, JOBS / 5);
        /* One chunk alone may need more. */
        size_t bound = bounds[round] > largest + 400 ? bounds[round] : largest + 400;
        CHECK(pbs_upload_most_bytes(upload) <= bound);
        CHECK(pbs_upload_most_bytes(upload) >= largest);
        pbs_upload_free(upload);
    }
}

/* Threads that wait, for a job or for room, do so no longer than uploads go on. */
static void nobody_waits_once_uploads_are_stopped(void)
{
    struct worker workers[4];
    uint32_t positions[] = {0, 1, 2, 4, 4, 4, 4, 4};
    size_t reads, drops;

    for (int round = 0; round < 2; round++) {
        struct pbs_upload *upload = new_upload(1, 1);
        pbs_upload_take_over(upload, MARGIN, 1);
        start_workers(workers, 4, upload);
        if (round)
            add(upload, positions, 8);
        CHECK_EQUAL(event_within(upload, 20), 0);
        pbs_upload_stop(upload);
        CHECK_EQUAL(event_within(upload, 0), 1);
        join_workers(workers, 4, &reads, &drops);
        CHECK(reads - drops <= 1); /* there was room for one */
        pbs_upload_free(upload);
    }
}

static void what_would_grow_too_long_is_not_read(void)
{
    enum { SIZE = PBS_CHUNK_FILE_MAX };
    uint8_t *file = allocate(SIZE), large[32];
    struct pbs_upload_archive archive = {.index = fixed_index(large, 1, SIZE, SIZE)};
    struct pbs_upload *upload = new_upload(1, 0);
    struct pbs_reading reading;
    uint32_t position = 0;
    size_t added;

    memset(file, 0, SIZE);
    make_blob(file, SIZE, PBS_BLOB_ZSTD);
    fill_random(&seed, large, sizeof large);
    store_put(&store, large, file, SIZE);
    pbs_upload_take_over(upload, MARGIN, SIZE_MAX);
    CHECK_EQUAL(pbs_upload_add(upload, &archive, &position, 1, &added), PBS_OK);
    CHECK(pbs_upload_take(upload, &reading));
    CHECK_EQUAL(pbs_upload_read(upload, &reading), PBS_E_TOO_LARGE);
    CHECK_EQUAL(pbs_upload_most_bytes(upload), 0);
    pbs_upload_free(upload);
    free(file);
}

/* A sender that waits for reads that sleep gets as many readers as are allowed. */
static void slow_reads_bring_more_readers(void)
{
    struct pbs_upload_options options = {
        .chunks_fd = store.fd, .readers = 9, .open_delay_us = 2000, .authority = AUTHORITY};
    struct pbs_upload_piece piece;
    struct pbs_upload *upload;
    uint32_t positions[100];
    size_t before = count_threads(), most = 0;

    for (size_t i = 0; i < 100; i++)
        positions[i] = (uint32_t)(i % FILES);
    CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_OK);
    add(upload, positions, 100);
    CHECK_EQUAL(count_threads(), before + 1);
    for (size_t i = 0; i < 100; i++) {
        CHECK(wait_for_piece(upload, &piece));
        check_piece(&piece, positions[piece.job]);
        pbs_upload_release(upload, piece.slot);
        size_t now = count_threads();
        most = now > most ? now : most;
    }
    CHECK_EQUAL(most, before + 9);
    pbs_upload_free(upload);
}

/* One bad chunk among many: told with its digest, whatever the other readers are doing. */
static void a_bad_chunk_stops_all(void)
{
    uint32_t positions[400];
    for (int round = 0; round < 60; round++) {
        uint32_t bad = (uint32_t)(next_random(&seed) % FILES);
        struct pbs_upload_failure failure;
        struct pbs_upload_piece piece;
        struct pbs_upload *upload = new_upload(1 + (unsigned)round % 8, 0);
        int expected = round % 2 ? PBS_E_CRC : PBS_E_NOT_FOUND;

        for (size_t i = 0; i < 400; i++)
            positions[i] = (uint32_t)(i % FILES == bad ? (bad + 1) % FILES : i % FILES);
        positions[next_random(&seed) % 400] = bad;
        files[bad][sizes[bad] - 1] ^= 1;
        store_put(&store, digests + 32 * bad, files[bad], sizes[bad]);
        if (expected == PBS_E_NOT_FOUND)
            CHECK(unlinkat(store.fd, store_name(&store, digests + 32 * bad), 0) == 0);
        add(upload, positions, 400);
        /* In some rounds the readers wait for room by then. */
        poll(NULL, 0, round % 4);
        while (wait_for_piece(upload, &piece))
            pbs_upload_release(upload, piece.slot);
        CHECK(pbs_upload_failed(upload, &failure));
        CHECK_EQUAL(failure.status, expected);
        CHECK(memcmp(failure.digest, digests + 32 * bad, 32) == 0);
        pbs_upload_free(upload);
        files[bad][sizes[bad] - 1] ^= 1;
        store_put(&store, digests + 32 * bad, files[bad], sizes[bad]);
    }
}

/* Freed at any time: readers wait for jobs, for room, sleep, read, or have not begun. */
static void freed_while_readers_are_busy(void)
{
    uint32_t positions[500];
    for (size_t i = 0; i < 500; i++)
        positions[i] = (uint32_t)(i % FILES);
    for (int round = 0; round < 200; round++) {
        struct pbs_upload_options options = {
            .chunks_fd = store.fd,
            .readers = 1 + (unsigned)round % 6,
            .open_delay_us = round % 3 == 0 ? 1000 : 0,
            .authority = AUTHORITY,
        };
        struct pbs_upload *upload;
        struct pbs_upload_piece piece;
        CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_OK);
        if (round % 10)
            add(upload, positions, 1 + next_random(&seed) % 500);
        for (size_t i = next_random(&seed) % 20; round % 10 && i; i--)
            if (pbs_upload_next(upload, NULL, &piece) && round % 2)
                pbs_upload_release(upload, piece.slot);
        if (round % 5 == 0)
            poll(NULL, 0, 2);
        pbs_upload_free(upload);
    }
}

int main(void)
{
    store = store_new();
    make_files();
    RUN(chunks_come_whole_in_any_order);
    RUN(small_chunks_lie_back_to_back);
    RUN(the_acknowledged_prefix_has_no_holes);
    RUN(there_is_a_bound_to_jobs_and_to_slots);
    RUN(refused_uploads_are_read_again);
    RUN(the_event_comes_once);
    RUN(bad_jobs_are_refused);
    RUN(little_is_read_ahead_of_a_busy_sender);
    RUN(chunks_change_on_their_way);
    RUN(nobody_waits_once_uploads_are_stopped);
    RUN(what_would_grow_too_long_is_not_read);
    RUN(slow_reads_bring_more_readers);
    RUN(a_bad_chunk_stops_all);
    RUN(freed_while_readers_are_busy);
    for (size_t i = 0; i < FILES; i++)
        free(files[i]);
    store_free(&store);
    return 0;
}
