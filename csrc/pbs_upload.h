/*
 * The merged-chunk upload buffer: reader threads take chunk files from a list of jobs, check them,
 * and place each one into a ring of memory, headed by the HTTP/2 HEADERS frame of its request and by
 * room for its first DATA frame's header. Small chunks lie back to back, so that one write to TLS
 * carries many of them; the payload is copied once, by read(2).
 *
 *     | HEADERS | 9 bytes | blob ...... | HEADERS | 9 bytes | blob .. |
 *
 * Jobs are numbered 0, 1, 2, ... as they are added. A job is *acknowledged* when the target answered
 * its upload with success; `acknowledged prefix` is how many jobs, from the first on, are.
 *
 * One thread, the sender, calls everything here but what a comment says otherwise; the readers are
 * the object's own.
 */
#ifndef PBS_UPLOAD_H
#define PBS_UPLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_chunks.h"
#include "pbs_index.h"
#include "pbs_readers.h"
#include "pbs_request.h"

struct pbs_upload_options {
    int chunks_fd;          /* the folder `.chunks`; borrowed, open as long as the object lives */
    unsigned readers;       /* threads that read ahead at most: 1 or more. There is one to begin
                             * with; slow reads that the sender waits for bring more of them, and
                             * more of buffer_bytes into use */
    size_t buffer_bytes;    /* bound of what is in memory; one chunk alone may need more. 0: as
                             * much as the largest chunk needs */
    uint32_t open_delay_us; /* every open takes this much longer: a slow disk, for tests */
    const char *authority;  /* `:authority` of the requests; copied */
    struct pbs_shared *shared; /* chunks are read once for it and others (pbs_shared.h); borrowed,
                                * NULL: it is alone */
    unsigned member;           /* which of its members this upload is for */
};

struct pbs_upload;

/* PBS_E_NOMEM, PBS_E_IO (no eventfd), PBS_E_INVALID (no readers), PBS_E_TOO_LARGE (authority). */
int pbs_upload_new(const struct pbs_upload_options *options, struct pbs_upload **out);

/* Stops the readers, waiting for those inside a system call. */
void pbs_upload_free(struct pbs_upload *upload);

/*
 * The file descriptor that becomes readable when, after pbs_upload_next found nothing, a chunk is
 * ready; and when reading failed. Owned by the object. It is cleared by pbs_upload_next where that
 * finds nothing, and by pbs_upload_clear_event: to be called before each decision whether to look
 * for a chunk, or a sender that may not send now would be woken by it again and again.
 */
int pbs_upload_event_fd(const struct pbs_upload *upload);
void pbs_upload_clear_event(struct pbs_upload *upload);

/* How the chunks of one archive are uploaded. */
struct pbs_upload_archive {
    struct pbs_index index;
    uint32_t writer_id;
    int encrypted; /* the chunks must be encrypted; otherwise, must not be */
};

/*
 * Add the chunks at these positions of an archive's index. As many are taken as there is room for;
 * *out_added tells how many. Digests are copied.
 * PBS_E_INVALID: a position outside of the index, PBS_E_TOO_LARGE: an entry of 4 GiB or more (the
 * jobs before it are added), PBS_E_NOMEM: no thread.
 */
int pbs_upload_add(struct pbs_upload *upload, const struct pbs_upload_archive *archive,
                   const uint32_t *positions, size_t n, size_t *out_added);

/* How many jobs were added, and how many of them, from the first on, are acknowledged. */
uint64_t pbs_upload_added(const struct pbs_upload *upload);
uint64_t pbs_upload_acknowledged(struct pbs_upload *upload);

struct pbs_upload_piece {
    struct pbs_message message;
    uint64_t job;
    uint64_t slot; /* to give back */
};

/*
 * The next chunk that is ready and was not handed out before, if it lies right at the address
 * `after` (NULL: wherever it lies). Returns 1 and fills *out; 0: it lies elsewhere, or none is ready
 * yet (the event fd will tell) or ever. Its memory is the caller's until pbs_upload_release.
 */
int pbs_upload_next(struct pbs_upload *upload, const uint8_t *after, struct pbs_upload_piece *out);

/* Every byte of this piece has been sent; its memory may serve another chunk. */
void pbs_upload_release(struct pbs_upload *upload, uint64_t slot);

/* The target has stored the job's chunk. */
void pbs_upload_acknowledge(struct pbs_upload *upload, uint64_t job);

/* The target did not look at the upload (REFUSED_STREAM): read and send that chunk again. The
 * piece must have been released. */
void pbs_upload_again(struct pbs_upload *upload, uint64_t job);

struct pbs_upload_failure {
    int status; /* PBS_E_* */
    int error;  /* errno, where status is PBS_E_IO */
    uint8_t digest[PBS_DIGEST_SIZE];
};

/* ---- chunks that change on their way ---- */

/*
 * Before any job is added: there are to be no readers, but threads of the caller's, which take jobs,
 * read their chunks into the ring, change them there, and give them to the sender. So the payload is
 * still copied once. margin is how many bytes longer a chunk may become: what was read lies at the end
 * of its body. first_bytes of the buffer are used to begin with; slow reads that the sender waits for
 * bring more of them into use.
 */
void pbs_upload_take_over(struct pbs_upload *upload, size_t margin, size_t first_bytes);

/* What such a thread does for each chunk, in any number of threads. */

/* Wait for a job, and take it. Returns 0 when there will be none. */
int pbs_upload_take(struct pbs_upload *upload, struct pbs_reading *out);

/*
 * Open its chunk, wait for room in the ring, and read it there; then it belongs to the caller until
 * it gives it, or drops it. PBS_E_CLOSED: uploads were stopped; else as pbs_chunk_open and
 * pbs_chunk_read, and then there is nothing to give: what becomes of the others is the caller's to
 * decide. PBS_E_TOO_LARGE, too, where it would become too long.
 */
int pbs_upload_read(struct pbs_upload *upload, struct pbs_reading *reading);

/* Where it lies. */
static inline uint8_t *pbs_upload_body(const struct pbs_reading *reading)
{
    return reading->start + reading->head_len + PBS_FRAME_HEADER;
}

/* Let all of its body be sent, as the chunk of this digest. */
void pbs_upload_give(struct pbs_upload *upload, struct pbs_reading *reading,
                     const uint8_t digest[PBS_DIGEST_SIZE]);

/* The target has it: it counts as acknowledged. */
void pbs_upload_drop(struct pbs_upload *upload, const struct pbs_reading *reading);

/* Let no thread wait any more, and make the event fd readable. Any thread. */
void pbs_upload_stop(struct pbs_upload *upload);

/* Most bytes that the ring has held at once. */
size_t pbs_upload_most_bytes(struct pbs_upload *upload);

/* ---- what goes wrong ---- */

/* Whether a chunk could not be read; if so, *out is about the first such. Nothing is read on. */
int pbs_upload_failed(struct pbs_upload *upload, struct pbs_upload_failure *out);

/* Digest of a job that is not in the acknowledged prefix; PBS_E_INVALID otherwise. */
int pbs_upload_digest(struct pbs_upload *upload, uint64_t job, uint8_t out[PBS_DIGEST_SIZE]);

#endif
