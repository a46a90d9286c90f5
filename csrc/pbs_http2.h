/*
 * The client's side of one HTTP/2 connection (RFC 9113), without any I/O: bytes of the peer go in,
 * bytes for the peer come out. It carries two kinds of request: *calls*, made one by one and answered
 * to the caller, and the *chunk uploads* of a pbs_upload, started as streams and windows allow.
 *
 * Flow control is kept for any windows, frame sizes and stream limits, also where settings change
 * in mid-flight. Bodies leave from the memory they lie in: each DATA frame's header is written in
 * front of its payload, into room or over bytes that have been sent, which are put back afterwards.
 *
 * One thread at a time. Bytes of the peer are hostile.
 */
#ifndef PBS_HTTP2_H
#define PBS_HTTP2_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_h2_calls.h"
#include "pbs_upload.h"

struct pbs_h2_options {
    size_t frame_size; /* largest DATA payload we send, also where the peer allows more */
    size_t span_size;  /* bytes after which no more chunks are merged into one output */
};

struct pbs_h2;

/* PBS_OK, PBS_E_NOMEM, PBS_E_INVALID (a size of 0). The preface and our settings are the first
 * output. */
int pbs_h2_new(const struct pbs_h2_options *options, struct pbs_h2 **out);
void pbs_h2_free(struct pbs_h2 *h2);

/* Take chunks from this upload, which must live as long as h2; at most once. */
void pbs_h2_attach(struct pbs_h2 *h2, struct pbs_upload *upload);

/* Queue a call for sending, with the first body_len bytes of its body; it belongs to h2 now. */
void pbs_h2_submit(struct pbs_h2 *h2, struct pbs_h2_message *message, size_t body_len);

/*
 * Bytes of the peer, any number. PBS_E_PROTOCOL, PBS_E_FLOW, PBS_E_NOMEM, PBS_E_TOO_LARGE: the
 * connection is beyond use; pbs_h2_error says why. A GOAWAY with an error code is PBS_E_CLOSED.
 * After an error this and pbs_h2_send do nothing but return the same again. Answers that were
 * complete before can still be had.
 */
int pbs_h2_receive(struct pbs_h2 *h2, const uint8_t *data, size_t len);

/*
 * The next bytes for the peer; *out_len 0: there is nothing that may be sent now. They carry at most
 * max_body bytes of bodies (1 or more), and heads of requests besides. All of them must have been
 * sent (or copied, or encrypted) when this, or pbs_h2_receive, is called again. Errors are those of
 * pbs_h2_receive; PBS_E_INVALID: a max_body of 0.
 */
int pbs_h2_send(struct pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len);

/* Bytes of the bodies of calls that are to be sent. O(calls and streams). */
size_t pbs_h2_unsent_calls(const struct pbs_h2 *h2);

/* The next answer; returns 0 when there is none. */
int pbs_h2_next_answer(struct pbs_h2 *h2, struct pbs_h2_answer *out);

struct pbs_h2_state {
    uint64_t sent_bytes;     /* payload of DATA frames */
    uint64_t received_bytes; /* likewise, as far as it was wanted */
    uint64_t uploads_done;   /* answered with success */
    uint64_t uploads_bytes;  /* body bytes of those */
    uint64_t requests;       /* streams opened */
    uint64_t refused;        /* streams the peer refused, sent again */
    uint32_t open_streams;
    uint32_t calls_waiting; /* submitted, not yet on a stream */
    uint32_t peer_max_streams;
    uint32_t peer_frame_size;
    uint32_t peer_initial_window;
    int64_t send_window; /* of the connection */
    int settings_seen;   /* the peer's first SETTINGS have come */
    int settings_acked;  /* the peer has acknowledged ours: it has read what we began with */
    int going_away;      /* no new streams: a GOAWAY without error has come, or ids ran out */
};

void pbs_h2_state(const struct pbs_h2 *h2, struct pbs_h2_state *out);

/* What went wrong, for a message: ASCII, owned by h2; "" if nothing did. */
const char *pbs_h2_error(const struct pbs_h2 *h2);

#endif
