#define _GNU_SOURCE
#include "pbs_shared.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pbs_chunks.h"
#include "pbs_error.h"

/* Memory that was given back and is used next, while it is in a core's cache: so many pieces. */
#define SPARES 8u
#define ROUND ((size_t)64 << 10)

/* Evictable entries, by how many want them: 0, 1, 2 or more. */
#define RANKS 3u

#define FIRST_BUCKETS 1024u

/* Reads that are remembered, to know those that are made again: 8 MiB. */
#define SEEN_BITS 19u
#define SEEN ((size_t)1 << SEEN_BITS)

enum state { ABSENT, READING, HERE };

struct memory {
    struct memory *next; /* of the spare ones */
    size_t size;         /* of the bytes that follow */
};

/* A chunk that is wanted, or in memory, or both. */
struct pbs_shared_entry {
    struct pbs_shared_entry *next; /* in its bucket */
    uint64_t hash;
    uint8_t digest[PBS_DIGEST_SIZE];
    uint32_t wants;
    uint32_t users; /* who wait for it, or have taken it */
    enum state state;
    uint32_t plain_size; /* by which it was checked, as encrypted */
    int encrypted;
    uint64_t had; /* members that have read or taken it, by bits */
    struct memory *memory;
    size_t size;
    /* Neighbours among those of its rank that may be evicted, from the one unused for longest on. */
    struct pbs_shared_entry *older, *newer;
    unsigned rank;
    int listed;
};

/* A chunk that was read, by its hash, and who has had it since, by bits: 0 is none. */
struct seen {
    uint64_t hash;
    uint64_t had;
};

struct rank {
    struct pbs_shared_entry *oldest, *newest;
};

struct pbs_shared {
    pthread_mutex_t lock;
    pthread_cond_t read; /* somebody's read has ended */
    struct pbs_hash hash;
    size_t room;
    uint64_t live; /* members, by bits */
    struct pbs_shared_entry **buckets;
    size_t n_buckets; /* a power of two */
    size_t n_entries;
    struct rank ranks[RANKS];
    struct memory *spare;
    unsigned n_spare;
    size_t held; /* bytes of memory, spare or not */
    size_t most_held;
    struct seen *seen;
    struct pbs_shared_counts counts[PBS_SHARED_MEMBERS_MAX];
};

static void lock(struct pbs_shared *shared)
{
    pthread_mutex_lock(&shared->lock);
}

static void unlock(struct pbs_shared *shared)
{
    pthread_mutex_unlock(&shared->lock);
}

static uint64_t bit_of(unsigned member)
{
    return (uint64_t)1 << member;
}

/* ---- entries by their digests ---- */

static struct pbs_shared_entry **bucket_of(const struct pbs_shared *shared, uint64_t hash)
{
    return &shared->buckets[hash & (shared->n_buckets - 1)];
}

static struct pbs_shared_entry *find(const struct pbs_shared *shared, const uint8_t *digest)
{
    uint64_t hash = pbs_hash_of(&shared->hash, digest);
    struct pbs_shared_entry *entry = *bucket_of(shared, hash);

    while (entry && (entry->hash != hash || memcmp(entry->digest, digest, PBS_DIGEST_SIZE) != 0))
        entry = entry->next;
    return entry;
}

/* Twice as many buckets; where there is no memory for them, chains grow. */
static void grow(struct pbs_shared *shared)
{
    size_t n = shared->n_buckets;
    struct pbs_shared_entry **old = shared->buckets;
    struct pbs_shared_entry **buckets = calloc(2 * n, sizeof *buckets);

    if (!buckets)
        return;
    shared->buckets = buckets;
    shared->n_buckets = 2 * n;
    for (size_t i = 0; i < n; i++)
        for (struct pbs_shared_entry *entry = old[i], *next; entry; entry = next) {
            struct pbs_shared_entry **bucket = bucket_of(shared, entry->hash);
            next = entry->next;
            entry->next = *bucket;
            *bucket = entry;
        }
    free(old);
}

/* The entry of a digest, made if there is none; NULL: there is no memory for one. */
static struct pbs_shared_entry *find_or_make(struct pbs_shared *shared, const uint8_t *digest)
{
    struct pbs_shared_entry *entry = find(shared, digest);

    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    if (shared->n_entries >= shared->n_buckets)
        grow(shared);
    entry->hash = pbs_hash_of(&shared->hash, digest);
    memcpy(entry->digest, digest, PBS_DIGEST_SIZE);
    entry->next = *bucket_of(shared, entry->hash);
    *bucket_of(shared, entry->hash) = entry;
    shared->n_entries++;
    return entry;
}

/* ---- which ones may be evicted ---- */

static void unlist(struct pbs_shared *shared, struct pbs_shared_entry *entry)
{
    struct rank *rank = &shared->ranks[entry->rank];

    if (!entry->listed)
        return;
    *(entry->older ? &entry->older->newer : &rank->oldest) = entry->newer;
    *(entry->newer ? &entry->newer->older : &rank->newest) = entry->older;
    entry->older = entry->newer = NULL;
    entry->listed = 0;
}

static unsigned rank_for(uint32_t wants)
{
    return wants < RANKS ? wants : RANKS - 1;
}

static void list(struct pbs_shared *shared, struct pbs_shared_entry *entry)
{
    entry->rank = rank_for(entry->wants);
    struct rank *rank = &shared->ranks[entry->rank];
    entry->older = rank->newest;
    *(rank->newest ? &rank->newest->newer : &rank->oldest) = entry;
    rank->newest = entry;
    entry->listed = 1;
}

/* ---- memory ---- */

static uint8_t *bytes_of(struct memory *memory)
{
    return (uint8_t *)(memory + 1);
}

static void free_memory(struct pbs_shared *shared, struct memory *memory)
{
    shared->held -= memory->size;
    free(memory);
}

static void spare(struct pbs_shared *shared, struct memory *memory)
{
    if (shared->n_spare == SPARES) {
        free_memory(shared, memory);
        return;
    }
    memory->next = shared->spare;
    shared->spare = memory;
    shared->n_spare++;
}

/* A spare one that is large enough and not too large, taken; NULL if there is none. */
static struct memory *take_spare(struct pbs_shared *shared, size_t size)
{
    for (struct memory **link = &shared->spare; *link; link = &(*link)->next) {
        struct memory *memory = *link;
        if (memory->size >= size && memory->size <= 2 * size + 4096) {
            *link = memory->next;
            shared->n_spare--;
            return memory;
        }
    }
    return NULL;
}

/* Look at an entry that has changed: it is freed, or may be evicted, or neither. */
static void settle(struct pbs_shared *shared, struct pbs_shared_entry *entry)
{
    unlist(shared, entry);
    if (entry->users || entry->state == READING)
        return;
    int all_had = (entry->had & shared->live) == shared->live;
    if (entry->state == HERE && (entry->wants || !all_had)) {
        list(shared, entry);
        return;
    }
    if (entry->state == HERE) {
        spare(shared, entry->memory);
        entry->memory = NULL;
        entry->state = ABSENT;
    }
    if (entry->wants)
        return;
    struct pbs_shared_entry **link = bucket_of(shared, entry->hash);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    shared->n_entries--;
    free(entry);
}

/* Drop what is held of an entry that is listed. */
static void evict(struct pbs_shared *shared, struct pbs_shared_entry *entry)
{
    spare(shared, entry->memory);
    entry->memory = NULL;
    entry->state = ABSENT;
    settle(shared, entry);
}

/* The entry to evict for a chunk that so many want; NULL: none. */
static struct pbs_shared_entry *victim(const struct pbs_shared *shared, uint32_t wants)
{
    for (unsigned rank = 0; rank == 0 || rank < rank_for(wants); rank++)
        if (shared->ranks[rank].oldest)
            return shared->ranks[rank].oldest;
    return NULL;
}

/* Memory for a chunk that so many want, within the room; NULL: there is none for it. */
static struct memory *find_memory(struct pbs_shared *shared, size_t size, uint32_t wants)
{
    size_t whole = size < ROUND ? size : (size + ROUND - 1) / ROUND * ROUND;
    struct memory *memory;
    struct pbs_shared_entry *entry;

    if (whole > shared->room)
        return NULL;
    while (!(memory = take_spare(shared, size))) {
        if (shared->held <= shared->room - whole) {
            memory = malloc(sizeof *memory + whole);
            if (!memory)
                return NULL;
            memory->size = whole;
            shared->held += whole;
            if (shared->held > shared->most_held)
                shared->most_held = shared->held;
            return memory;
        }
        if (shared->spare) {
            memory = shared->spare;
            shared->spare = memory->next;
            shared->n_spare--;
            free_memory(shared, memory);
        } else if ((entry = victim(shared, wants)) != NULL) {
            evict(shared, entry);
        } else {
            return NULL;
        }
    }
    return memory;
}

/* ---- what was read before ---- */

static struct seen *seen_slot(const struct pbs_shared *shared, uint64_t hash)
{
    return &shared->seen[hash >> (64 - SEEN_BITS)];
}

/* Who has had a chunk since it was read first, where this member has not; else nobody: once it has,
 * each read is what a push by itself would do, too, for another group. */
static uint64_t had_without(const struct pbs_shared *shared, uint64_t hash, unsigned member)
{
    const struct seen *seen = seen_slot(shared, hash);

    return seen->hash == hash && !(seen->had & bit_of(member)) ? seen->had : 0;
}

static void count_read(struct pbs_shared *shared, uint64_t hash, unsigned member, size_t size)
{
    struct pbs_shared_counts *counts = &shared->counts[member];
    uint64_t had = had_without(shared, hash, member);

    counts->read_chunks++;
    counts->read_bytes += size;
    if (had) {
        counts->again_chunks++;
        counts->again_bytes += size;
    }
    *seen_slot(shared, hash) = (struct seen){hash, had | bit_of(member)};
}

static void count_taken(struct pbs_shared *shared, uint64_t hash, unsigned member, size_t size)
{
    struct pbs_shared_counts *counts = &shared->counts[member];
    struct seen *seen = seen_slot(shared, hash);

    counts->taken_chunks++;
    counts->taken_bytes += size;
    if (seen->hash == hash)
        seen->had |= bit_of(member);
}

/* Whether somebody else may take what this member reads now. */
static int may_be_taken(const struct pbs_shared *shared, const struct pbs_shared_entry *entry,
                        unsigned member)
{
    uint64_t others = shared->live & ~bit_of(member);

    return others && (entry->wants || (others & ~had_without(shared, entry->hash, member)));
}

/* ---- taking one ---- */

/* Open the file, for the taker to read. */
static int open_alone(struct pbs_shared *shared, unsigned member, int chunks_fd,
                      const struct pbs_job *job, struct pbs_shared_chunk *out, int *out_errno)
{
    int status = pbs_chunk_open(chunks_fd, job->digest, &out->fd, &out->size, out_errno);

    if (status) {
        out->fd = -1;
        return status;
    }
    lock(shared);
    count_read(shared, pbs_hash_of(&shared->hash, job->digest), member, out->size);
    unlock(shared);
    return PBS_OK;
}

/* Read it into memory of its own, as the entry that says READING; with the lock, which is let go
 * meanwhile. Where there is no room the file stays open for the taker. */
static int read_entry(struct pbs_shared *shared, struct pbs_shared_entry *entry, unsigned member,
                      int chunks_fd, const struct pbs_job *job, struct pbs_shared_chunk *out,
                      int *out_errno)
{
    struct memory *memory = NULL;

    unlock(shared);
    int status = pbs_chunk_open(chunks_fd, job->digest, &out->fd, &out->size, out_errno);
    if (status)
        out->fd = -1;
    lock(shared);
    if (!status)
        memory = find_memory(shared, out->size, entry->wants);
    if (memory) {
        unlock(shared);
        status = pbs_chunk_read(out->fd, out->size, job->plain_size, job->encrypted,
                                bytes_of(memory), out_errno);
        close(out->fd);
        out->fd = -1;
        lock(shared);
    }
    if (!status)
        count_read(shared, entry->hash, member, out->size);
    pthread_cond_broadcast(&shared->read);
    if (status || !memory) {
        if (memory)
            spare(shared, memory);
        entry->state = ABSENT;
        settle(shared, entry);
        return status;
    }
    entry->state = HERE;
    entry->memory = memory;
    entry->size = out->size;
    entry->plain_size = job->plain_size;
    entry->encrypted = job->encrypted;
    entry->had = bit_of(member);
    entry->users++;
    out->entry = entry;
    out->bytes = bytes_of(memory);
    return PBS_OK;
}

/* Wait until nobody reads it, and take what is there then: 1, or 0 where that is of no use. */
static int take_held(struct pbs_shared *shared, struct pbs_shared_entry *entry, unsigned member,
                     const struct pbs_job *job, struct pbs_shared_chunk *out)
{
    entry->users++;
    while (entry->state == READING)
        pthread_cond_wait(&shared->read, &shared->lock);
    if (entry->state != HERE || entry->plain_size != job->plain_size ||
        entry->encrypted != job->encrypted) {
        entry->users--;
        return 0;
    }
    unlist(shared, entry);
    entry->had |= bit_of(member);
    *out = (struct pbs_shared_chunk){entry, bytes_of(entry->memory), entry->size, -1};
    count_taken(shared, entry->hash, member, entry->size);
    return 1;
}

int pbs_shared_take(struct pbs_shared *shared, unsigned member, int chunks_fd,
                    const struct pbs_job *job, struct pbs_shared_chunk *out, int *out_errno)
{
    *out = (struct pbs_shared_chunk){.fd = -1};
    lock(shared);
    struct pbs_shared_entry *entry = find_or_make(shared, job->digest);
    if (entry) {
        entry->wants -= job->wanted && entry->wants;
        int known = entry->state != ABSENT;
        if (known && take_held(shared, entry, member, job, out)) {
            unlock(shared);
            return PBS_OK;
        }
        /* Where somebody else's read failed, or found no room, this one is on its own, too. */
        if (!known && may_be_taken(shared, entry, member)) {
            entry->state = READING;
            int status = read_entry(shared, entry, member, chunks_fd, job, out, out_errno);
            unlock(shared);
            return status;
        }
        settle(shared, entry);
    }
    unlock(shared);
    return open_alone(shared, member, chunks_fd, job, out, out_errno);
}

void pbs_shared_give_back(struct pbs_shared *shared, struct pbs_shared_chunk *chunk)
{
    if (chunk->fd >= 0)
        close(chunk->fd);
    if (chunk->entry) {
        lock(shared);
        chunk->entry->users--;
        settle(shared, chunk->entry);
        unlock(shared);
    }
    *chunk = (struct pbs_shared_chunk){.fd = -1};
}

/* ---- who wants what ---- */

int pbs_shared_want(struct pbs_shared *shared, const uint8_t digest[PBS_DIGEST_SIZE])
{
    lock(shared);
    struct pbs_shared_entry *entry = find_or_make(shared, digest);
    if (entry) {
        entry->wants++;
        settle(shared, entry);
    }
    unlock(shared);
    return entry ? PBS_OK : PBS_E_NOMEM;
}

void pbs_shared_unwant(struct pbs_shared *shared, const uint8_t digest[PBS_DIGEST_SIZE])
{
    lock(shared);
    struct pbs_shared_entry *entry = find(shared, digest);
    if (entry && entry->wants) {
        entry->wants--;
        settle(shared, entry);
    }
    unlock(shared);
}

void pbs_shared_leave(struct pbs_shared *shared, unsigned member)
{
    lock(shared);
    shared->live &= ~bit_of(member);
    for (unsigned rank = 0; rank < RANKS; rank++)
        for (struct pbs_shared_entry *entry = shared->ranks[rank].oldest, *newer; entry;
             entry = newer) {
            newer = entry->newer;
            if (!entry->wants && (entry->had & shared->live) == shared->live)
                settle(shared, entry);
        }
    unlock(shared);
}

/* ---- birth, death and numbers ---- */

int pbs_shared_new(const uint8_t key[PBS_SHARED_KEY_SIZE], size_t room, unsigned members,
                   struct pbs_shared **out)
{
    if (members == 0 || members > PBS_SHARED_MEMBERS_MAX)
        return PBS_E_INVALID;
    struct pbs_shared *shared = calloc(1, sizeof *shared);
    if (!shared)
        return PBS_E_NOMEM;
    shared->buckets = calloc(FIRST_BUCKETS, sizeof *shared->buckets);
    shared->seen = calloc(SEEN, sizeof *shared->seen);
    if (!shared->buckets || !shared->seen) {
        free(shared->buckets);
        free(shared->seen);
        free(shared);
        return PBS_E_NOMEM;
    }
    shared->n_buckets = FIRST_BUCKETS;
    shared->room = room;
    shared->live = ~(uint64_t)0 >> (PBS_SHARED_MEMBERS_MAX - members);
    pbs_hash_init(&shared->hash, key);
    pthread_mutex_init(&shared->lock, NULL);
    pthread_cond_init(&shared->read, NULL);
    *out = shared;
    return PBS_OK;
}

void pbs_shared_free(struct pbs_shared *shared)
{
    if (!shared)
        return;
    for (size_t i = 0; i < shared->n_buckets; i++)
        for (struct pbs_shared_entry *entry = shared->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            free(entry->memory);
            free(entry);
        }
    for (struct memory *memory = shared->spare, *next; memory; memory = next) {
        next = memory->next;
        free(memory);
    }
    pthread_cond_destroy(&shared->read);
    pthread_mutex_destroy(&shared->lock);
    free(shared->buckets);
    free(shared->seen);
    free(shared);
}

void pbs_shared_count(struct pbs_shared *shared, unsigned member, struct pbs_shared_counts *out)
{
    lock(shared);
    *out = shared->counts[member];
    unlock(shared);
}

void pbs_shared_held(struct pbs_shared *shared, size_t *out_now, size_t *out_most)
{
    lock(shared);
    *out_now = shared->held;
    *out_most = shared->most_held;
    unlock(shared);
}
