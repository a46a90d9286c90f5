/*
 * The head of a request: one HEADERS frame (RFC 9113, 8.3.1), encoded without state, so that it can
 * be written before it is known which stream the request gets. Inline, since much of it is known
 * where it is used: the method and the content type of a chunk's upload.
 *
 * Thread-safe: nothing is shared.
 */
#ifndef PBS_REQUEST_H
#define PBS_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pbs_error.h"
#include "pbs_h2_frames.h"
#include "pbs_hpack.h"

/*
 * A request on its way out, in one piece of writable memory: the HEADERS frame of head_len bytes
 * (stream id still 0), and where there is a body, PBS_FRAME_HEADER bytes of room and the body.
 */
struct pbs_message {
    uint8_t *start;
    size_t head_len;
    size_t body_len;
};

struct pbs_request {
    const char *method; /* "GET", "POST" or "PUT" */
    const char *authority;
    const char *path;         /* with the query */
    const char *content_type; /* NULL: none */
};

/* The static table's row of the method; 0 where it has none and the method is spelled out. */
static inline int pbs_request_method_row(const char *method)
{
    if (strcmp(method, "GET") == 0)
        return PBS_HPACK_METHOD_GET;
    if (strcmp(method, "POST") == 0)
        return PBS_HPACK_METHOD_POST;
    return strcmp(method, "PUT") == 0 ? 0 : -1;
}

/*
 * Bytes of the head. PBS_E_INVALID: another method; PBS_E_TOO_LARGE: it would not fit into a frame
 * that every peer takes.
 */
static inline int pbs_request_head_size(const struct pbs_request *request, size_t *out_size)
{
    int row = pbs_request_method_row(request->method);
    size_t authority_len = strlen(request->authority), path_len = strlen(request->path);
    size_t type_len = request->content_type ? strlen(request->content_type) : 0;

    if (row < 0)
        return PBS_E_INVALID;
    if (authority_len + path_len + type_len > PBS_H2_LEAST_FRAME - 64)
        return PBS_E_TOO_LARGE;
    size_t block = (row ? 1 : pbs_hpack_literal_size(PBS_HPACK_METHOD_GET, 3)) + 1 +
                   pbs_hpack_literal_size(PBS_HPACK_AUTHORITY, authority_len) +
                   pbs_hpack_literal_size(PBS_HPACK_PATH, path_len);
    if (request->content_type)
        block += pbs_hpack_literal_size(PBS_HPACK_CONTENT_TYPE, type_len);
    *out_size = PBS_FRAME_HEADER + block;
    return PBS_OK;
}

static inline size_t pbs_request_literal(uint8_t *out, unsigned row, const char *value)
{
    return pbs_hpack_literal(out, row, value, strlen(value));
}

/* Write them, as many as pbs_request_head_size told. */
static inline void pbs_request_write_head(const struct pbs_request *request, size_t head_size,
                                          uint8_t *out)
{
    int row = pbs_request_method_row(request->method);
    uint8_t *at = out + PBS_FRAME_HEADER;

    pbs_h2_put_frame_header(out, head_size - PBS_FRAME_HEADER, PBS_H2_HEADERS, PBS_H2_END_HEADERS,
                            0);
    at += row ? pbs_hpack_indexed(at, (unsigned)row)
              : pbs_request_literal(at, PBS_HPACK_METHOD_GET, request->method);
    at += pbs_hpack_indexed(at, PBS_HPACK_SCHEME_HTTPS);
    at += pbs_request_literal(at, PBS_HPACK_AUTHORITY, request->authority);
    at += pbs_request_literal(at, PBS_HPACK_PATH, request->path);
    if (request->content_type)
        pbs_request_literal(at, PBS_HPACK_CONTENT_TYPE, request->content_type);
}

#endif
