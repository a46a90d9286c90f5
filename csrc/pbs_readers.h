/*
 * Threads that take jobs, and read each one's chunk into the ring, behind the head of its upload's
 * request. There is one to begin with; slow reads that the sender waits for bring more of them, and
 * more of the ring into use. Or threads of somebody else do so, step by step, and change the chunks
 * in the ring.
 *
 * The sender's thread works on the same structure (pbs_upload.c): what is below `lock` it touches
 * with the lock held, as every function here demands that says nothing else.
 */
#ifndef PBS_READERS_H
#define PBS_READERS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "pbs_event.h"
#include "pbs_jobs.h"
#include "pbs_ring.h"
#include "pbs_shared.h"

struct pbs_readers_waiter;

#define PBS_READING_PATH_SIZE 192u

/* A chunk on its way from its file to the ring. */
struct pbs_reading {
    uint64_t number; /* of the job */
    struct pbs_job job;
    int error; /* errno, where a step's status is PBS_E_IO */
    char path[PBS_READING_PATH_SIZE];
    int fd;
    struct pbs_shared_chunk shared; /* where chunks are shared: instead of fd */
    uint64_t slot;
    uint8_t *start; /* of the slot's memory, as pbs_message's */
    size_t head_len;
    size_t body_len;
    int watched; /* count in slept how often reading it made the thread sleep */
    long slept;
};

/* About the first chunk that could not be read. */
struct pbs_readers_failure {
    int status; /* PBS_E_*; PBS_OK: all could */
    int error;  /* errno, where status is PBS_E_IO */
    uint8_t digest[PBS_DIGEST_SIZE];
};

struct pbs_readers {
    int chunks_fd;          /* borrowed */
    uint32_t open_delay_us; /* every open takes this much longer; to be set before there is a job */
    const char *authority;  /* borrowed */
    unsigned max_threads;   /* 0: somebody else's take the jobs */
    size_t bound;           /* of the ring's bytes in use */
    size_t margin;          /* is left in front of each chunk in its body */
    struct pbs_shared *shared; /* borrowed: with whom each chunk is read once; NULL: nobody */
    unsigned member;           /* of it */

    pthread_mutex_t lock;
    pthread_cond_t work; /* readers wait for jobs */
    /* Readers that wait for room, the first to be served first: a large chunk would otherwise wait
     * as long as small ones fit. Each has a condition of its own, since chunks may leave the ring
     * thousands of times a second, and just one reader can use the room. */
    struct pbs_readers_waiter *waiters;
    struct pbs_readers_waiter **waiters_end;

    pthread_t *threads;
    unsigned wanted_threads; /* as many as have turned out to be useful so far; as ring.limit */
    unsigned n_threads;
    unsigned n_idle;
    int stopping;

    struct pbs_jobs jobs;
    struct pbs_ring ring;
    struct pbs_event event; /* tells the sender that a chunk is ready, or that reading failed */
    int sender_waits;       /* and is to be told */
    int starved;            /* the last time that the sender looked, it found nothing */
    unsigned slow_reads;    /* in a row, of those that were watched */
    struct pbs_readers_failure failure;
};

/*
 * Make one of memory that is all zero, to read from the folder `.chunks`, open as chunks_fd, with
 * max_threads (1 or more) into buffer_bytes (0: as much as the largest chunk needs). authority is
 * borrowed. PBS_E_NOMEM, PBS_E_IO (no eventfd), PBS_E_INVALID (no threads), PBS_E_TOO_LARGE
 * (authority); there is nothing to free then. Without the lock, as the next.
 */
int pbs_readers_init(struct pbs_readers *readers, int chunks_fd, const char *authority,
                     unsigned max_threads, size_t buffer_bytes);

/* Stop the threads, waiting for those inside a system call. */
void pbs_readers_free(struct pbs_readers *readers);

/* Threads of somebody else's take the jobs from now on: before there is one. See
 * pbs_upload_take_over. */
void pbs_readers_take_over(struct pbs_readers *readers, size_t margin, size_t first_bytes);

/* Jobs were added: start threads for them, and wake those that are idle. PBS_E_NOMEM: there is none,
 * and none can be had. */
int pbs_readers_start(struct pbs_readers *readers);

/* Room was made in the ring: wake the reader that waits for it. */
void pbs_readers_room(struct pbs_readers *readers);

/* Let nobody wait any more, and nobody begin. */
void pbs_readers_stop(struct pbs_readers *readers);

/* ---- what a thread does for each chunk; any thread, without the lock ---- */

/* Wait for a job, and take it. Returns 0 when there will be none. */
int pbs_readers_take(struct pbs_readers *readers, struct pbs_reading *out);

/* Open its chunk, wait until the ring has room for it, and read it to the end of its body. On an
 * error there is nothing to give. PBS_E_CLOSED: it is of no use any more; else as pbs_chunk_open and
 * pbs_chunk_read. */
int pbs_readers_read(struct pbs_readers *readers, struct pbs_reading *reading);

/* What is in the ring now is to be sent, as the chunk of this digest. */
void pbs_readers_give(struct pbs_readers *readers, struct pbs_reading *reading,
                      const uint8_t digest[PBS_DIGEST_SIZE]);

/* It need not be sent: its job is acknowledged as it is. */
void pbs_readers_drop(struct pbs_readers *readers, const struct pbs_reading *reading);

#endif
