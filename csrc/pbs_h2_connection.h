/*
 * What the two directions of a connection share: its state, the control frames that it has to send
 * (RFC 9113, 3.4 and 6.5 to 6.9), and what went wrong. Only pbs_http2.c and the pbs_h2_* modules it
 * is made of look in here.
 *
 * The rule: nothing that the last output lies in is changed or freed before pbs_h2_settle.
 */
#ifndef PBS_H2_CONNECTION_H
#define PBS_H2_CONNECTION_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_buffer.h"
#include "pbs_h2_calls.h"
#include "pbs_h2_frames.h"
#include "pbs_h2_streams.h"
#include "pbs_hpack.h"
#include "pbs_upload.h"

/* The last output, which must stay as it is until it has been sent. */
struct pbs_h2_output {
    size_t body_left;                /* what it may still carry of bodies, while it is made */
    uint8_t saved[PBS_FRAME_HEADER]; /* what a DATA header was written over */
    uint8_t *saved_at;               /* NULL: nothing was */
    size_t control_taken;            /* it was that many bytes of control frames */
    struct pbs_buffer finished;      /* slots (uint64_t) all of whose bytes are in it */
    struct pbs_h2_stream *sent_once; /* the rest of its call is in it; NULL: of none */
};

/* A header block in pieces. */
struct pbs_h2_block {
    struct pbs_buffer bytes;
    uint32_t stream; /* 0: none has begun */
    int end_stream;
};

struct pbs_h2 {
    size_t frame_size;
    size_t span_size;
    struct pbs_upload *upload; /* borrowed; may be NULL */
    struct pbs_h2_streams streams;
    struct pbs_h2_calls calls;
    struct pbs_h2_answers answers;

    struct pbs_buffer control; /* frames to send before all else */
    struct pbs_h2_output output;

    struct pbs_h2_reader reader;
    struct pbs_hpack *hpack;
    struct pbs_h2_block block;

    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t uploads_done;
    uint64_t uploads_bytes;
    uint64_t refused;
    int settings_seen;
    int settings_acked;
    int going_away;
    int failed; /* what made the connection unusable, or PBS_OK */
    char error[160];
};

/* Say why the connection is beyond use; returns status. */
int pbs_h2_broken(struct pbs_h2 *h2, int status, const char *why);

/* Queue a control frame, or one whose payload is a single number. PBS_E_NOMEM, PBS_E_TOO_LARGE: the
 * peer reads none of those we sent. */
int pbs_h2_put(struct pbs_h2 *h2, enum pbs_h2_frame_type type, unsigned flags, uint32_t stream,
               const void *payload, size_t len);
int pbs_h2_put_u32(struct pbs_h2 *h2, enum pbs_h2_frame_type type, uint32_t stream, uint32_t value);

/* Queue what a client has to begin with. */
int pbs_h2_put_preface(struct pbs_h2 *h2);

/* PBS_OK where a stream that is not open once was, so that what comes for it is late; else
 * PBS_E_PROTOCOL. */
int pbs_h2_check_known(struct pbs_h2 *h2, uint32_t id);

#endif
