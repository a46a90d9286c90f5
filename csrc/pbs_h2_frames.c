#include "pbs_h2_frames.h"

#include <stdlib.h>

#include "pbs_error.h"

void pbs_h2_reader_free(struct pbs_h2_reader *reader)
{
    free(reader->part.data);
}

void pbs_h2_reader_give(struct pbs_h2_reader *reader, const uint8_t *data, size_t len)
{
    reader->data = data;
    reader->len = len;
}

static size_t frame_size(const uint8_t *header)
{
    return PBS_FRAME_HEADER + pbs_load_be24(header);
}

static int too_long(const uint8_t *header)
{
    return pbs_load_be24(header) > PBS_H2_LEAST_FRAME;
}

static struct pbs_h2_frame frame_at(const uint8_t *data)
{
    return (struct pbs_h2_frame){
        .len = pbs_load_be24(data),
        .type = data[3],
        .flags = data[4],
        .stream = pbs_load_be32(data + 5) & PBS_H2_MAX_STREAM_ID,
        .payload = data + PBS_FRAME_HEADER,
    };
}

static void skip(struct pbs_h2_reader *reader, size_t n)
{
    reader->data += n;
    reader->len -= n;
}

/* Add to the incomplete frame until it has so many bytes, or the given ones run out. */
static int fill_part(struct pbs_h2_reader *reader, size_t want)
{
    size_t missing = want > reader->part.len ? want - reader->part.len : 0;
    size_t take = missing < reader->len ? missing : reader->len;
    int status = pbs_buffer_append(&reader->part, reader->data, take);

    if (!status)
        skip(reader, take);
    return status;
}

static int next_from_part(struct pbs_h2_reader *reader, struct pbs_h2_frame *out, int *out_found)
{
    int status = fill_part(reader, PBS_FRAME_HEADER);

    if (status || reader->part.len < PBS_FRAME_HEADER)
        return status;
    if (too_long(reader->part.data))
        return PBS_E_PROTOCOL;
    size_t size = frame_size(reader->part.data);
    status = fill_part(reader, size);
    if (status || reader->part.len < size)
        return status;
    reader->part.len = 0; /* the bytes stay until more are added */
    *out = frame_at(reader->part.data);
    *out_found = 1;
    return PBS_OK;
}

int pbs_h2_reader_next(struct pbs_h2_reader *reader, struct pbs_h2_frame *out, int *out_found)
{
    *out_found = 0;
    if (reader->part.len || reader->len < PBS_FRAME_HEADER)
        return next_from_part(reader, out, out_found);
    if (too_long(reader->data))
        return PBS_E_PROTOCOL;
    size_t size = frame_size(reader->data);
    if (size > reader->len)
        return next_from_part(reader, out, out_found);
    *out = frame_at(reader->data);
    *out_found = 1;
    skip(reader, size);
    return PBS_OK;
}
