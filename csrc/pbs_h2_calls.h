/*
 * What callers ask and what they are told: calls, which wait for a stream, and answers, which wait
 * for who asked. Both are had in the order in which they came.
 *
 * One thread at a time.
 */
#ifndef PBS_H2_CALLS_H
#define PBS_H2_CALLS_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_request.h"

enum pbs_h2_answer_mode {
    PBS_H2_COLLECT,  /* a small body, kept: at most max_body bytes */
    PBS_H2_DOWNLOAD, /* a body of up to max_body bytes, for which the window is opened wide */
    PBS_H2_DISCARD,  /* only the status matters: on success the stream is cancelled at once */
};

struct pbs_h2_call {
    const char *method; /* "GET", "POST" or "PUT" */
    const char *authority;
    const char *path;         /* with the query */
    const char *content_type; /* NULL: none */
    enum pbs_h2_answer_mode mode;
    size_t max_body;
    size_t part_size; /* a successful body comes in parts of about that many bytes; 0: whole */
    uint32_t tag;     /* returned with the answer */
    int once;         /* free the body when it is sent: refused after that, it is not made again */
};

/* A call that can be sent; its fields are for the connection. */
struct pbs_h2_message {
    struct pbs_message message; /* start is this structure's own memory */
    enum pbs_h2_answer_mode mode;
    size_t max_body;
    size_t part_size;
    uint32_t tag;
    int once;
    struct pbs_h2_message *next;
    uint8_t memory[];
};

/*
 * Make the message of a call with room for body_size bytes of body, to be filled in at *out_body
 * (NULL where body_size is 0) before pbs_h2_submit. Free it with pbs_h2_message_free if it is not
 * submitted. PBS_E_NOMEM, PBS_E_TOO_LARGE (path), PBS_E_INVALID (method).
 */
int pbs_h2_message_new(const struct pbs_h2_call *call, size_t body_size,
                       struct pbs_h2_message **out, uint8_t **out_body);
void pbs_h2_message_free(struct pbs_h2_message *message);

/* Free the body's memory. Returns the message, which may lie elsewhere now; it has no body. */
struct pbs_h2_message *pbs_h2_message_drop_body(struct pbs_h2_message *message);

/* The calls that wait, first to last. */
struct pbs_h2_calls {
    struct pbs_h2_message *first;
    struct pbs_h2_message **end;
    uint32_t n;
};

void pbs_h2_calls_init(struct pbs_h2_calls *calls);
void pbs_h2_calls_free(struct pbs_h2_calls *calls);

/* Add one behind the last, or before the first; it belongs to the queue until it is popped. */
void pbs_h2_calls_push(struct pbs_h2_calls *calls, struct pbs_h2_message *message);
void pbs_h2_calls_push_front(struct pbs_h2_calls *calls, struct pbs_h2_message *message);

/* Take the first; there must be one. */
struct pbs_h2_message *pbs_h2_calls_pop(struct pbs_h2_calls *calls);

/* Bytes of their bodies together. O(n). */
size_t pbs_h2_calls_bytes(const struct pbs_h2_calls *calls);

struct pbs_h2_answer {
    uint32_t tag;
    int is_upload; /* a chunk upload that failed; job tells which (successes are not told) */
    uint64_t job;
    unsigned status; /* of HTTP; 0: the stream was reset, reset_code says how (a GOAWAY that
                      * leaves a stream out counts as REFUSED_STREAM, 7) */
    uint32_t reset_code;
    int is_part;        /* body is part of a body that goes on with the next answer of this tag */
    int body_too_large; /* the body was longer than max_body, and is cut there */
    uint8_t *body;      /* to be freed with free(); may be NULL */
    size_t body_len;
};

struct pbs_h2_answer_node;

/* The answers that wait, first to last. */
struct pbs_h2_answers {
    struct pbs_h2_answer_node *first;
    struct pbs_h2_answer_node **end;
};

void pbs_h2_answers_init(struct pbs_h2_answers *answers);
void pbs_h2_answers_free(struct pbs_h2_answers *answers);

/* Add one, whose body belongs to the list then. PBS_OK, or PBS_E_NOMEM. */
int pbs_h2_answers_push(struct pbs_h2_answers *answers, const struct pbs_h2_answer *answer);

/* Take the first, with its body; returns 0 when there is none. */
int pbs_h2_answers_pop(struct pbs_h2_answers *answers, struct pbs_h2_answer *out);

#endif
