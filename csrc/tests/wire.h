/* An HTTP/2 peer's frames, and a client under test that reads them from memory of exactly their
 * size. */
#ifndef PBS_TESTS_WIRE_H
#define PBS_TESTS_WIRE_H

#include <string.h>

#include "check.h"
#include "pbs_bytes.h"
#include "pbs_error.h"
#include "pbs_http2.h"

enum { DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 0x20 };
enum { MAX_STREAMS_SETTING = 3, WINDOW_SETTING = 4, FRAME_SETTING = 5 };

#define AUTHORITY "a:1"
#define SETTINGS_FRAME "\0\0\0\4\0\0\0\0\0" /* with nothing in it */

/* ---- bytes of the peer ---- */

struct wire {
    uint8_t *bytes;
    size_t len, capacity;
};

static inline void put(struct wire *wire, const void *bytes, size_t len)
{
    if (wire->len + len > wire->capacity) {
        wire->capacity = 2 * (wire->len + len);
        wire->bytes = realloc(wire->bytes, wire->capacity);
        CHECK(wire->bytes != NULL);
    }
    if (len)
        memcpy(wire->bytes + wire->len, bytes, len);
    wire->len += len;
}

static inline void put_frame(struct wire *wire, int type, int flags, uint32_t stream,
                             const void *payload, size_t len)
{
    uint8_t header[9];
    pbs_store_be24(header, (uint32_t)len);
    header[3] = (uint8_t)type;
    header[4] = (uint8_t)flags;
    pbs_store_be32(header + 5, stream);
    put(wire, header, sizeof header);
    put(wire, payload, len);
}

static inline void put_u32(struct wire *wire, int type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];
    pbs_store_be32(payload, value);
    put_frame(wire, type, 0, stream, payload, sizeof payload);
}

static inline void put_setting(struct wire *wire, uint16_t name, uint32_t value)
{
    uint8_t payload[6];
    pbs_store_be16(payload, name);
    pbs_store_be32(payload + 2, value);
    put_frame(wire, SETTINGS, 0, 0, payload, sizeof payload);
}

static inline void put_status(struct wire *wire, int flags, uint32_t stream, unsigned status)
{
    char block[16];
    snprintf(block, sizeof block, "\x08\x03%u", status);
    put_frame(wire, HEADERS, flags | END_HEADERS, stream, block, 5);
}

/* ---- the client under test ---- */

static inline struct pbs_h2 *new_h2(size_t frame_size, size_t span_size)
{
    struct pbs_h2_options options = {frame_size, span_size};
    struct pbs_h2 *h2 = NULL;
    CHECK_EQUAL(pbs_h2_new(&options, &h2), PBS_OK);
    return h2;
}

static inline struct pbs_h2_state state_of(const struct pbs_h2 *h2)
{
    struct pbs_h2_state state;
    pbs_h2_state(h2, &state);
    return state;
}

/* Give it the bytes from memory of exactly their size. */
static inline int receive(struct pbs_h2 *h2, const void *bytes, size_t len)
{
    uint8_t *exact = allocate(len);
    if (len)
        memcpy(exact, bytes, len);
    int status = pbs_h2_receive(h2, exact, len);
    free(exact);
    return status;
}

static inline int receive_wire(struct pbs_h2 *h2, struct wire *wire)
{
    int status = receive(h2, wire->bytes, wire->len);
    wire->len = 0;
    return status;
}

static inline void submit(struct pbs_h2 *h2, const struct pbs_h2_call *wanted, size_t body_len)
{
    struct pbs_h2_message *message;
    uint8_t *body;
    CHECK_EQUAL(pbs_h2_message_new(wanted, body_len, &message, &body), PBS_OK);
    CHECK((body == NULL) == (body_len == 0));
    for (size_t i = 0; i < body_len; i++)
        body[i] = (uint8_t)(wanted->tag + i);
    pbs_h2_submit(h2, message, body_len);
}

static inline void call(struct pbs_h2 *h2, uint32_t tag, const char *method, size_t body_len,
                        enum pbs_h2_answer_mode mode, size_t max_body)
{
    struct pbs_h2_call wanted = {.method = method,
                                 .authority = AUTHORITY,
                                 .path = "/p",
                                 .content_type = body_len ? "t" : NULL,
                                 .mode = mode,
                                 .max_body = max_body,
                                 .tag = tag};
    submit(h2, &wanted, body_len);
}

#endif
