/*
 * The open streams of a connection (RFC 9113, 5.1), each of which carries a call or the upload of a
 * chunk, with what the peer allows them: how many there may be, and how long a frame; and flow
 * control (5.2, 6.9): windows of how much each side may send, on a stream and on the connection.
 * Only DATA frames count, with their padding.
 *
 * One thread at a time.
 */
#ifndef PBS_H2_STREAMS_H
#define PBS_H2_STREAMS_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_buffer.h"
#include "pbs_h2_calls.h"
#include "pbs_request.h"

/* More streams at once would gain nothing, and bound our memory whatever the peer allows. */
#define PBS_H2_MAX_STREAMS 1024u

/* What we grant a stream: answers are small, and a body that is not wanted should not come. */
#define PBS_H2_INITIAL_WINDOW 16384u

#define PBS_H2_MAX_WINDOW 0x7fffffff
#define PBS_H2_DEFAULT_WINDOW 65535

/* ---- windows ---- */

/* The peer lets us send more, or (a changed initial window, 6.9.2) less, down to below 0.
 * PBS_E_FLOW: more than a window can hold. */
int pbs_h2_send_window_change(int64_t *window, int64_t change);

/* What we let the peer send. */
struct pbs_h2_receive_window {
    int64_t left;
    uint32_t grant; /* once half of that much was used, all that was used is granted anew */
    uint32_t used;
};

/* Let the peer send that much more, and go on in such steps. */
void pbs_h2_receive_window_widen(struct pbs_h2_receive_window *window, uint32_t more);

/*
 * The peer has sent len bytes. *out_more is how much to grant it now with a WINDOW_UPDATE; 0: it
 * has enough. PBS_E_FLOW: it sent more than it may.
 */
int pbs_h2_receive_window_use(struct pbs_h2_receive_window *window, uint32_t len,
                              uint32_t *out_more);

/* ---- streams ---- */

struct pbs_h2_stream {
    uint32_t id;
    int64_t window; /* to send; may be negative */
    struct pbs_message out;
    size_t sent;                 /* of the body */
    struct pbs_h2_message *call; /* owned; NULL: an upload */
    uint64_t job;                /* of an upload, as slot */
    uint64_t slot;
    int holds_slot;
    unsigned status; /* 0: no final HEADERS yet */
    int too_large;
    struct pbs_h2_receive_window receive_window;
    struct pbs_buffer body; /* of the answer, without the parts that are told already */
    size_t parts;           /* bytes of those */
};

struct pbs_h2_streams {
    struct pbs_h2_stream *open[PBS_H2_MAX_STREAMS]; /* oldest first */
    struct pbs_h2_stream *spare;                    /* one to use again: uploads come and go */
    uint32_t n_open;
    uint32_t n_sending; /* of those, with unsent body */
    uint32_t next_id;
    uint32_t peer_max_streams;
    uint32_t peer_frame_size;
    uint32_t peer_initial_window;
    int64_t send_window; /* of the connection, as the next */
    struct pbs_h2_receive_window receive_window;
};

void pbs_h2_streams_init(struct pbs_h2_streams *streams);
void pbs_h2_streams_free(struct pbs_h2_streams *streams);

/* Streams opened so far. */
static inline uint32_t pbs_h2_streams_opened(const struct pbs_h2_streams *streams)
{
    return streams->next_id / 2;
}

/* Whether a stream can be opened now, and whether one ever can: ids run out. */
int pbs_h2_streams_may_open(const struct pbs_h2_streams *streams);
int pbs_h2_streams_used_up(const struct pbs_h2_streams *streams);

/* Whether we ever opened the stream of this id. */
int pbs_h2_streams_known(const struct pbs_h2_streams *streams, uint32_t id);

/* The open stream of this id, and its place among them; NULL: there is none. */
struct pbs_h2_stream *pbs_h2_streams_find(struct pbs_h2_streams *streams, uint32_t id,
                                          uint32_t *out_at);

/* Open a stream for this message, whose memory is borrowed until it is closed, where
 * pbs_h2_streams_may_open. PBS_OK, or PBS_E_NOMEM. */
int pbs_h2_streams_open(struct pbs_h2_streams *streams, const struct pbs_message *out,
                        struct pbs_h2_stream **out_stream);

/* Close the stream at this place, with its call, if it still has one. */
void pbs_h2_streams_close(struct pbs_h2_streams *streams, uint32_t at);

/* Whether there is body to send yet. */
static inline int pbs_h2_stream_unsent(const struct pbs_h2_stream *stream)
{
    return stream->sent < stream->out.body_len;
}

/* How many bytes of a stream's body one frame may carry now, and no more than most. */
size_t pbs_h2_streams_sendable(const struct pbs_h2_streams *streams,
                               const struct pbs_h2_stream *stream, size_t most);

/* n bytes of the body are sent. */
void pbs_h2_streams_sent(struct pbs_h2_streams *streams, struct pbs_h2_stream *stream, size_t n);

/* Send no more of a stream's body. */
void pbs_h2_streams_drop_body(struct pbs_h2_streams *streams, struct pbs_h2_stream *stream);

/* Free the memory of the call's body, all of which is sent. */
void pbs_h2_stream_drop_sent(struct pbs_h2_stream *stream);

/* Whether its request can be made again: what was sent of it is still here. */
int pbs_h2_stream_is_whole(const struct pbs_h2_stream *stream);

/* Bytes that are to be sent of the bodies of calls. O(open streams). */
size_t pbs_h2_streams_unsent_calls(const struct pbs_h2_streams *streams);

/* The peer's setting of the window that streams begin with, open ones too. PBS_E_FLOW. */
int pbs_h2_streams_set_initial_window(struct pbs_h2_streams *streams, uint32_t value);

#endif
