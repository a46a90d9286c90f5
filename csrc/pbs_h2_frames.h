/*
 * The frames of HTTP/2 (RFC 9113, sections 4 and 6): their names, their header's layout, and a
 * reader that makes frames of bytes which come in any pieces. What a frame means is not known here.
 */
#ifndef PBS_H2_FRAMES_H
#define PBS_H2_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_buffer.h"
#include "pbs_bytes.h"

#define PBS_FRAME_HEADER 9u

enum pbs_h2_frame_type {
    PBS_H2_DATA = 0x0,
    PBS_H2_HEADERS = 0x1,
    PBS_H2_PRIORITY = 0x2,
    PBS_H2_RST_STREAM = 0x3,
    PBS_H2_SETTINGS = 0x4,
    PBS_H2_PUSH_PROMISE = 0x5,
    PBS_H2_PING = 0x6,
    PBS_H2_GOAWAY = 0x7,
    PBS_H2_WINDOW_UPDATE = 0x8,
    PBS_H2_CONTINUATION = 0x9,
};

enum {
    PBS_H2_END_STREAM = 0x1, /* of DATA and HEADERS */
    PBS_H2_ACK = 0x1,        /* of SETTINGS and PING */
    PBS_H2_END_HEADERS = 0x4,
    PBS_H2_PADDED = 0x8,
    PBS_H2_HAS_PRIORITY = 0x20,
};

enum {
    PBS_H2_ENABLE_PUSH = 0x2,
    PBS_H2_MAX_CONCURRENT_STREAMS = 0x3,
    PBS_H2_INITIAL_WINDOW_SIZE = 0x4,
    PBS_H2_MAX_FRAME_SIZE = 0x5,
};

enum {
    PBS_H2_REFUSED_STREAM = 0x7,
    PBS_H2_CANCEL = 0x8,
};

#define PBS_H2_MAX_STREAM_ID 0x7fffffffu
/* Largest payload that every peer takes; the default, which we leave as ours. */
#define PBS_H2_LEAST_FRAME 16384u
/* Largest payload that a peer may allow. */
#define PBS_H2_MOST_FRAME 0xffffffu

/* Write the PBS_FRAME_HEADER bytes in front of len bytes of payload. */
static inline void pbs_h2_put_frame_header(uint8_t *out, size_t len, enum pbs_h2_frame_type type,
                                           unsigned flags, uint32_t stream)
{
    pbs_store_be24(out, (uint32_t)len);
    out[3] = (uint8_t)type;
    out[4] = (uint8_t)flags;
    pbs_store_be32(out + 5, stream);
}

struct pbs_h2_frame {
    uint32_t len;
    uint8_t type; /* maybe none of those above */
    uint8_t flags;
    uint32_t stream;
    const uint8_t *payload;
};

/* {0} is one that has read nothing. */
struct pbs_h2_reader {
    struct pbs_buffer part; /* an incomplete frame */
    const uint8_t *data;    /* given, and not looked at yet */
    size_t len;
};

void pbs_h2_reader_free(struct pbs_h2_reader *reader);

/* Borrow the next bytes of the peer, until pbs_h2_reader_next has found no more frame in them. */
void pbs_h2_reader_give(struct pbs_h2_reader *reader, const uint8_t *data, size_t len);

/*
 * The next whole frame, its payload borrowed until the next call; *out_found is 0 where there is
 * none: all bytes are taken then. PBS_E_PROTOCOL: a frame of more than PBS_H2_LEAST_FRAME bytes,
 * PBS_E_NOMEM. The reader is beyond use after an error.
 */
int pbs_h2_reader_next(struct pbs_h2_reader *reader, struct pbs_h2_frame *out, int *out_found);

#endif
