/*
 * What threads of a push do at the same time, all in one process: sessions of their own that read
 * the same chunk store, mappings that come and go, one set of digests behind a lock, threads that
 * change chunks on their way, and one that stops them. For the thread sanitizer (`make races`).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "pbs_digests.h"
#include "pbs_entries.h"
#include "pbs_map.h"
#include "server.h"
#include "store.h"

enum { THREADS = 4, FILES = 24, ROUNDS = 6 };

static struct store store;
static uint8_t rows[FILES * 32];
static pthread_barrier_t together;

static pthread_mutex_t set_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pbs_digests *set;

static void release(const void *from, size_t length)
{
    pbs_map_release(from, length);
}

/* ---- an index, as every group reads its own and others' ---- */

static void read_index(const char *name)
{
    struct pbs_map map;
    struct pbs_index index;
    int reason = 0;
    size_t pos, n, len;
    uint8_t body[4096];
    uint32_t changed[FILES];
    CHECK_EQUAL(pbs_map_open(store.fd, name, &map, &reason), PBS_OK);
    CHECK_EQUAL(pbs_index_parse(map.base, map.length, &index), PBS_OK);
    CHECK_EQUAL(pbs_index_check(&index, 0, index.n, &pos), PBS_OK);
    CHECK_EQUAL(index.n, FILES);
    pthread_mutex_lock(&set_lock);
    /* Rows that stay, not the mapping's, which goes. */
    CHECK_EQUAL(
        pbs_digests_insert(set, pbs_all((struct pbs_rows){rows, 32, FILES}), NULL, NULL, &n),
        PBS_OK);
    CHECK_EQUAL(pbs_digests_difference(
                    set, pbs_all((struct pbs_rows){index.digests, (ptrdiff_t)index.stride, FILES}),
                    changed, &n),
                PBS_OK);
    CHECK_EQUAL(n, 0);
    pthread_mutex_unlock(&set_lock);
    if (index.kind == PBS_INDEX_FIXED) {
        CHECK_EQUAL(pbs_entries_changed(&index, &index, 0, index.n, changed, &n), PBS_OK);
        CHECK_EQUAL(n, 0);
    }
    CHECK_EQUAL(pbs_entries_body(&index, NULL, 0, FILES, 1, body, sizeof body, &n, &len), PBS_OK);
    CHECK_EQUAL(n, FILES);
    pbs_map_release(map.base, map.length);
    CHECK(!pbs_map_shrunk(&map));
    pbs_map_close(&map);
}

/* ---- a session ---- */

struct session {
    struct pbs_h2 *h2;
    struct pbs_upload *upload;
    atomic_int stopped;
};

static void begin(struct session *session, unsigned readers)
{
    struct pbs_h2_options options = {65536, 262144};
    struct pbs_upload_options wanted = {
        .chunks_fd = store.fd, .readers = readers, .authority = "a:1"};
    atomic_init(&session->stopped, 0);
    CHECK_EQUAL(pbs_h2_new(&options, &session->h2), PBS_OK);
    CHECK_EQUAL(pbs_upload_new(&wanted, &session->upload), PBS_OK);
    pbs_h2_attach(session->h2, session->upload);
}

static void add_jobs(struct session *session)
{
    struct pbs_upload_archive archive = {.index = fixed_index(rows, FILES, 4096, FILES * 4096),
                                         .writer_id = 1};
    uint32_t positions[4 * FILES];
    size_t added;
    for (uint32_t i = 0; i < 4 * FILES; i++)
        positions[i] = i * 7 % FILES;
    CHECK_EQUAL(pbs_upload_add(session->upload, &archive, positions, 4 * FILES, &added), PBS_OK);
    CHECK_EQUAL(added, 4 * FILES);
}

static void end(struct session *session)
{
    pbs_h2_free(session->h2);
    pbs_upload_free(session->upload);
}

/* Chunks as they lie on disk: the readers are the upload's own. */
static void push_stored(void)
{
    struct session session;
    begin(&session, 3);
    add_jobs(&session);
    CHECK_EQUAL(serve_uploads(session.h2, session.upload, NULL), PBS_OK);
    CHECK_EQUAL(pbs_upload_acknowledged(session.upload), 4 * FILES);
    end(&session);
}

/* A thread that encrypts: every fifth chunk is at the target already. */
static void *encrypt(void *argument)
{
    struct session *session = argument;
    struct pbs_reading reading;
    while (pbs_upload_take(session->upload, &reading)) {
        int status = pbs_upload_read(session->upload, &reading);
        if (status == PBS_E_CLOSED)
            break;
        CHECK_EQUAL(status, PBS_OK);
        if (reading.number % 5 == 4) {
            pbs_upload_drop(session->upload, &reading);
            continue;
        }
        memset(pbs_upload_body(&reading), 'e', 32);
        pbs_upload_give(session->upload, &reading, reading.job.digest);
    }
    return NULL;
}

static void *stop_soon(void *argument)
{
    struct session *session = argument;
    while (pbs_upload_acknowledged(session->upload) < FILES)
        sched_yield();
    atomic_store(&session->stopped, 1);
    pbs_upload_stop(session->upload);
    return NULL;
}

static void push_encrypted(int is_stopped)
{
    struct session session;
    pthread_t threads[3], stopper;
    begin(&session, 3);
    pbs_upload_take_over(session.upload, 32, 1 << 20);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, encrypt, &session) == 0);
    add_jobs(&session);
    if (is_stopped)
        CHECK(pthread_create(&stopper, NULL, stop_soon, &session) == 0);
    CHECK_EQUAL(serve_uploads(session.h2, session.upload, &session.stopped), PBS_OK);
    if (is_stopped)
        pthread_join(stopper, NULL);
    pbs_upload_stop(session.upload);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    end(&session);
}

/* ---- all at once ---- */

static void *push_group(void *argument)
{
    size_t number = (size_t)(uintptr_t)argument;
    pthread_barrier_wait(&together); /* what is made once is made by all now */
    for (size_t round = 0; round < ROUNDS; round++) {
        read_index((number + round) % 2 ? "one.fidx" : "other.didx");
        if ((number + round) % 3 == 0)
            push_stored();
        else
            push_encrypted((number + round) % 3 == 1);
    }
    return NULL;
}

static void groups_do_not_disturb_each_other(void)
{
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&together, NULL, THREADS) == 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, push_group, (void *)(uintptr_t)i) == 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
}

static void write_index(const char *name, int is_fixed)
{
    static const uint8_t magics[2][8] = {{28, 145, 78, 165, 25, 186, 179, 205},
                                         {47, 127, 65, 237, 145, 253, 15, 205}};
    uint8_t file[4096 + FILES * 40] = {0}, *at = file + 4096;
    memcpy(file, magics[is_fixed], 8);
    pbs_store_le64(file + 64, FILES * 4096);
    pbs_store_le64(file + 72, 4096);
    for (size_t i = 0; i < FILES; i++) {
        if (!is_fixed) {
            pbs_store_le64(at, (i + 1) * 4096);
            at += 8;
        }
        memcpy(at, rows + 32 * i, 32);
        at += 32;
    }
    int fd = openat(store.fd, name, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, file, (size_t)(at - file)) == at - file && close(fd) == 0);
}

int main(void)
{
    static const uint8_t key[PBS_DIGESTS_KEY_SIZE] = {1, 2, 3};
    uint64_t seed = 20261129;
    store = store_new();
    fill_random(&seed, rows, sizeof rows);
    write_index("one.fidx", 1);
    write_index("other.didx", 0);
    for (size_t i = 0; i < FILES; i++) {
        size_t size = 500 + (i % 5 ? 900 * i : 100000);
        uint8_t *file = allocate(size);
        fill_random(&seed, file, size);
        /* The CRC of an own making: the first use of pbs_crc32 is to be the threads'. */
        static const uint8_t magic[] = {49, 185, 88, 66, 111, 182, 163, 127};
        memcpy(file, magic, 8);
        uint32_t crc = ~0u;
        for (size_t k = 12; k < size; k++) {
            crc ^= file[k];
            for (int bit = 0; bit < 8; bit++)
                crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        }
        pbs_store_le32(file + 8, ~crc);
        store_put(&store, rows + 32 * i, file, size);
        free(file);
    }
    CHECK_EQUAL(pbs_digests_new(key, 0, release, &set), PBS_OK);
    RUN(groups_do_not_disturb_each_other);
    pbs_digests_free(set);
    store_free(&store);
    return 0;
}
