/*
 * Bytes that grow at their end. {0} is an empty one; data is freed with free(). One thread at a
 * time.
 */
#ifndef PBS_BUFFER_H
#define PBS_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pbs_error.h"

struct pbs_buffer {
    uint8_t *data; /* moves when it grows */
    size_t len;
    size_t capacity;
};

/* PBS_OK, or PBS_E_NOMEM, which leaves the buffer as it was. data may be NULL where len is 0. */
static inline int pbs_buffer_append(struct pbs_buffer *buffer, const void *data, size_t len)
{
    if (len > buffer->capacity - buffer->len) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity - buffer->len < len)
            capacity *= 2;
        uint8_t *grown = realloc(buffer->data, capacity);
        if (!grown)
            return PBS_E_NOMEM;
        buffer->data = grown;
        buffer->capacity = capacity;
    }
    if (len)
        memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
    return PBS_OK;
}

#endif
