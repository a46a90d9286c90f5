/* Chunks that are read once for several targets: what is kept, for whom, how long, and what it costs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "pbs_error.h"
#include "pbs_shared.h"
#include "server.h"
#include "store.h"

enum { FILES = 64, SIZE = 100000, WHOLE = 2 * 65536, ROOMY = FILES * WHOLE };

static struct store store;
static uint8_t rows[FILES * 32];
static uint8_t *files[FILES];
static size_t sizes[FILES];

static const uint8_t *digest(size_t i)
{
    return rows + 32 * i;
}

static struct pbs_job job(size_t i, int wanted)
{
    struct pbs_job made = {.plain_size = 4096, .wanted = (uint8_t)wanted};
    memcpy(made.digest, digest(i), 32);
    return made;
}

static struct pbs_shared *new_shared(size_t room, unsigned members)
{
    static const uint8_t key[PBS_SHARED_KEY_SIZE] = {7, 1, 9, [40] = 3};
    struct pbs_shared *shared;
    CHECK_EQUAL(pbs_shared_new(key, room, members, &shared), PBS_OK);
    return shared;
}

static struct pbs_shared_counts counts_of(struct pbs_shared *shared, unsigned member)
{
    struct pbs_shared_counts counts;
    pbs_shared_count(shared, member, &counts);
    return counts;
}

static size_t held(struct pbs_shared *shared)
{
    size_t now, most;
    pbs_shared_held(shared, &now, &most);
    CHECK(now <= most);
    return now;
}

static struct pbs_shared_chunk take(struct pbs_shared *shared, unsigned member, size_t i,
                                    int wanted)
{
    struct pbs_shared_chunk chunk;
    struct pbs_job made = job(i, wanted);
    int error = 0;
    CHECK_EQUAL(pbs_shared_take(shared, member, store.fd, &made, &chunk, &error), PBS_OK);
    CHECK_EQUAL(chunk.size, sizes[i]);
    CHECK((chunk.entry != NULL) == (chunk.fd < 0));
    if (chunk.entry)
        CHECK(memcmp(chunk.bytes, files[i], chunk.size) == 0);
    return chunk;
}

/* Take it and give it back. Returns whether it was in memory. */
static int pass(struct pbs_shared *shared, unsigned member, size_t i)
{
    struct pbs_shared_chunk chunk = take(shared, member, i, 0);
    int in_memory = chunk.entry != NULL;
    pbs_shared_give_back(shared, &chunk);
    pbs_shared_give_back(shared, &chunk); /* may be done twice */
    return in_memory;
}

static void a_file_is_read_once_for_all(void)
{
    struct pbs_shared *shared = new_shared(ROOMY, 3);
    uint64_t bytes = 0;
    for (size_t i = 0; i < 10; i++) {
        for (unsigned member = 0; member < 3; member++)
            CHECK(pass(shared, (member + (unsigned)i) % 3, i));
        bytes += sizes[i];
    }
    uint64_t read = 0, taken = 0, read_bytes = 0;
    for (unsigned member = 0; member < 3; member++) {
        struct pbs_shared_counts counts = counts_of(shared, member);
        read += counts.read_chunks;
        read_bytes += counts.read_bytes;
        taken += counts.taken_chunks;
        CHECK_EQUAL(counts.again_chunks, 0);
    }
    CHECK_EQUAL(read, 10);
    CHECK_EQUAL(read_bytes, bytes);
    CHECK_EQUAL(taken, 20);
    CHECK(held(shared) <= 9 * WHOLE); /* what all have had is not kept, but for some spare memory */
    pbs_shared_free(shared);
}

static void who_is_alone_reads_past_it(void)
{
    struct pbs_shared *shared = new_shared(ROOMY, 2);
    CHECK(pass(shared, 0, 1));
    pbs_shared_leave(shared, 1);
    CHECK(!pass(shared, 0, 1));
    CHECK(!pass(shared, 0, 2));
    CHECK_EQUAL(counts_of(shared, 0).read_chunks, 3);
    CHECK_EQUAL(counts_of(shared, 0).again_chunks, 0);
    pbs_shared_free(shared);
}

static void what_nobody_wants_goes_first(void)
{
    struct pbs_shared *shared = new_shared(4 * WHOLE, 2);
    CHECK_EQUAL(pbs_shared_want(shared, digest(0)), PBS_OK);
    for (size_t i = 0; i < 12; i++)
        CHECK(pass(shared, 0, i));
    CHECK(held(shared) <= 4 * WHOLE);
    CHECK(pass(shared, 1, 11)); /* the newest is there, and what is wanted; of the others nothing */
    struct pbs_shared_chunk wanted = take(shared, 1, 0, 1);
    CHECK(wanted.entry);
    pbs_shared_give_back(shared, &wanted);
    struct pbs_shared_counts counts = counts_of(shared, 1);
    CHECK_EQUAL(counts.taken_chunks, 2);
    CHECK(!pass(shared, 1, 5)); /* read again: the other one has had it, so nobody needs it */
    counts = counts_of(shared, 1);
    CHECK_EQUAL(counts.read_chunks, 1);
    CHECK_EQUAL(counts.again_chunks, 1);
    CHECK_EQUAL(counts.again_bytes, sizes[5]);
    pbs_shared_free(shared);
}

static void what_is_wanted_stays_and_nobody_waits_for_room(void)
{
    struct pbs_shared *shared = new_shared(4 * WHOLE, 2);
    for (size_t i = 0; i < 12; i++)
        CHECK_EQUAL(pbs_shared_want(shared, digest(i)), PBS_OK);
    for (size_t i = 0; i < 12; i++)
        CHECK_EQUAL(pass(shared, 0, i), i < 4);
    for (size_t i = 0; i < 12; i++) {
        struct pbs_shared_chunk chunk = take(shared, 1, i, 1);
        CHECK_EQUAL(chunk.entry != NULL, i < 4);
        pbs_shared_give_back(shared, &chunk);
    }
    CHECK_EQUAL(counts_of(shared, 1).taken_chunks, 4);
    CHECK_EQUAL(counts_of(shared, 1).again_chunks, 8);
    pbs_shared_free(shared);
}

static void what_more_want_drives_out_what_fewer_want(void)
{
    struct pbs_shared *shared = new_shared(2 * WHOLE, 3);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQUAL(pbs_shared_want(shared, digest(i)), PBS_OK);
    for (int n = 0; n < 2; n++)
        CHECK_EQUAL(pbs_shared_want(shared, digest(2)), PBS_OK);
    CHECK(pass(shared, 0, 0));
    CHECK(pass(shared, 0, 1));
    CHECK(pass(shared, 0, 2));
    CHECK(!pass(shared, 0, 3)); /* nobody wants it: there is no room */
    CHECK(pass(shared, 1, 1));
    CHECK_EQUAL(counts_of(shared, 1).taken_chunks, 1);
    pbs_shared_unwant(shared, digest(2));
    pbs_shared_unwant(shared, digest(2));
    CHECK(pass(shared, 0, 3)); /* its room is to be had now */
    pbs_shared_free(shared);
}

static void what_is_in_use_stays(void)
{
    struct pbs_shared *shared = new_shared(WHOLE, 2);
    struct pbs_shared_chunk used = take(shared, 0, 0, 0);
    CHECK(used.entry);
    CHECK(!pass(shared, 0, 1));
    CHECK(pass(shared, 1, 0));
    CHECK(memcmp(used.bytes, files[0], used.size) == 0);
    pbs_shared_give_back(shared, &used);
    CHECK(pass(shared, 0, 1));
    CHECK_EQUAL(held(shared), WHOLE);
    pbs_shared_free(shared);
}

static void a_chunk_larger_than_the_room_goes_past_it(void)
{
    struct pbs_shared *shared = new_shared(WHOLE - 1, 2);
    CHECK(!pass(shared, 0, 0));
    CHECK(!pass(shared, 1, 0));
    CHECK_EQUAL(held(shared), 0);
    CHECK_EQUAL(counts_of(shared, 1).again_chunks, 1);
    pbs_shared_free(shared);
}

static void errors_are_each_ones_own(void)
{
    struct pbs_shared *shared = new_shared(ROOMY, 2);
    struct pbs_shared_chunk chunk;
    struct pbs_job gone = job(0, 0), odd = job(1, 0);
    int error = 0;
    gone.digest[0] ^= 1;
    for (unsigned member = 0; member < 2; member++)
        CHECK_EQUAL(pbs_shared_take(shared, member, store.fd, &gone, &chunk, &error),
                    PBS_E_NOT_FOUND);
    odd.encrypted = 1;
    for (unsigned member = 0; member < 2; member++)
        CHECK_EQUAL(pbs_shared_take(shared, member, store.fd, &odd, &chunk, &error), PBS_E_CRYPT);
    CHECK_EQUAL(counts_of(shared, 0).read_chunks, 0);
    /* What one has checked by its own index says nothing to whose index says something else. */
    CHECK(pass(shared, 0, 1));
    CHECK_EQUAL(pbs_shared_take(shared, 1, store.fd, &odd, &chunk, &error), PBS_OK);
    CHECK(!chunk.entry && chunk.fd >= 0); /* to be read, and refused, by the taker */
    pbs_shared_give_back(shared, &chunk);
    pbs_shared_free(shared);
}

/* ---- threads ---- */

enum { MEMBERS = 3, READERS = 3, ROUNDS = 40 };
static pthread_barrier_t together;

struct reader {
    struct pbs_shared *shared;
    unsigned member;
    uint64_t seed;
};

static void *read_at_random(void *argument)
{
    struct reader *reader = argument;
    pthread_barrier_wait(&together);
    for (int round = 0; round < ROUNDS; round++) {
        size_t i = next_random(&reader->seed) % FILES;
        int wanted = next_random(&reader->seed) % 2 &&
                     pbs_shared_want(reader->shared, digest(i)) == PBS_OK;
        struct pbs_shared_chunk chunk = take(reader->shared, reader->member, i, wanted);
        if (round % 7 == 0)
            sched_yield();
        if (chunk.entry)
            CHECK(memcmp(chunk.bytes, files[i], chunk.size) == 0);
        pbs_shared_give_back(reader->shared, &chunk);
    }
    return NULL;
}

static void threads_get_what_they_ask_for(void)
{
    for (size_t room = WHOLE; room <= ROOMY; room *= 8) {
        struct pbs_shared *shared = new_shared(room, MEMBERS);
        struct reader readers[MEMBERS * READERS];
        pthread_t threads[MEMBERS * READERS];
        size_t now, most;
        uint64_t all = 0;
        CHECK(pthread_barrier_init(&together, NULL, MEMBERS * READERS) == 0);
        for (unsigned i = 0; i < MEMBERS * READERS; i++) {
            readers[i] = (struct reader){shared, i % MEMBERS, 1000 + i};
            CHECK(pthread_create(&threads[i], NULL, read_at_random, &readers[i]) == 0);
        }
        for (unsigned i = 0; i < MEMBERS * READERS; i++)
            pthread_join(threads[i], NULL);
        for (unsigned member = 0; member < MEMBERS; member++) {
            struct pbs_shared_counts counts = counts_of(shared, member);
            all += counts.read_chunks + counts.taken_chunks;
            pbs_shared_leave(shared, member);
        }
        CHECK_EQUAL(all, MEMBERS * READERS * ROUNDS);
        pbs_shared_held(shared, &now, &most);
        CHECK(most <= room);
        CHECK(now <= 8 * (size_t)WHOLE); /* spare */
        pthread_barrier_destroy(&together);
        pbs_shared_free(shared);
    }
}

/* ---- uploads ---- */

struct session {
    struct pbs_shared *shared;
    unsigned member;
    int ended_early;
};

static void *upload_all(void *argument)
{
    struct session *session = argument;
    struct pbs_h2 *h2;
    struct pbs_upload *upload;
    struct pbs_h2_options options = {65536, 262144};
    struct pbs_upload_options wanted = {.chunks_fd = store.fd,
                                        .readers = 2,
                                        .authority = "a:1",
                                        .shared = session->shared,
                                        .member = session->member};
    struct pbs_upload_archive archive = {.index = fixed_index(rows, FILES, 4096, FILES * 4096),
                                         .writer_id = 1};
    uint32_t positions[FILES];
    size_t added;
    for (uint32_t i = 0; i < FILES; i++)
        positions[i] = i;
    CHECK_EQUAL(pbs_h2_new(&options, &h2), PBS_OK);
    CHECK_EQUAL(pbs_upload_new(&wanted, &upload), PBS_OK);
    pbs_h2_attach(h2, upload);
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, FILES, &added), PBS_OK);
    CHECK_EQUAL(added, FILES);
    pthread_barrier_wait(&together);
    if (!session->ended_early)
        CHECK_EQUAL(serve_uploads(h2, upload, NULL), PBS_OK);
    pbs_h2_free(h2);
    pbs_upload_free(upload);
    pbs_shared_leave(session->shared, session->member);
    return NULL;
}

/* The last of them ends at once, with all that it wanted. */
static void uploads_share_what_they_read(void)
{
    struct pbs_shared *shared = new_shared(ROOMY, MEMBERS);
    struct session sessions[MEMBERS];
    pthread_t threads[MEMBERS];
    uint64_t read = 0, again = 0;
    CHECK(pthread_barrier_init(&together, NULL, MEMBERS) == 0);
    for (unsigned i = 0; i < MEMBERS; i++) {
        sessions[i] = (struct session){shared, i, i == MEMBERS - 1};
        CHECK(pthread_create(&threads[i], NULL, upload_all, &sessions[i]) == 0);
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&together);
    for (unsigned i = 0; i < MEMBERS; i++) {
        read += counts_of(shared, i).read_chunks;
        again += counts_of(shared, i).again_chunks;
    }
    /* The second upload has one chunk sent twice, which the server refused at first. */
    CHECK(read >= FILES && read <= FILES + MEMBERS);
    CHECK(again <= MEMBERS);
    CHECK(held(shared) <= 8 * (size_t)WHOLE); /* nothing is kept for those that are gone */
    pbs_shared_free(shared);
}

int main(void)
{
    uint64_t seed = 20261128;
    static const uint8_t key[PBS_SHARED_KEY_SIZE] = {0};
    struct pbs_shared *none;
    store = store_new();
    fill_random(&seed, rows, sizeof rows);
    for (size_t i = 0; i < FILES; i++) {
        sizes[i] = SIZE + 100 * i;
        files[i] = allocate(sizes[i]);
        fill_random(&seed, files[i], sizes[i]);
        make_blob(files[i], sizes[i], PBS_BLOB_ZSTD);
        store_put(&store, digest(i), files[i], sizes[i]);
    }
    CHECK_EQUAL(pbs_shared_new(key, 1, 0, &none), PBS_E_INVALID);
    CHECK_EQUAL(pbs_shared_new(key, 1, PBS_SHARED_MEMBERS_MAX + 1, &none), PBS_E_INVALID);
    pbs_shared_free(NULL);
    RUN(a_file_is_read_once_for_all);
    RUN(who_is_alone_reads_past_it);
    RUN(what_nobody_wants_goes_first);
    RUN(what_is_wanted_stays_and_nobody_waits_for_room);
    RUN(what_more_want_drives_out_what_fewer_want);
    RUN(what_is_in_use_stays);
    RUN(a_chunk_larger_than_the_room_goes_past_it);
    RUN(errors_are_each_ones_own);
    RUN(threads_get_what_they_ask_for);
    RUN(uploads_share_what_they_read);
    for (size_t i = 0; i < FILES; i++)
        free(files[i]);
    store_free(&store);
    return 0;
}
