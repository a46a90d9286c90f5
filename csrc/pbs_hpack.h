/*
 * HPACK (RFC 7541), as a client of the backup protocol needs it: requests are encoded without state,
 * answers are decoded with a dynamic table of the default 4,096 bytes.
 *
 * Not thread-safe: one decoder belongs to one connection. Input is hostile.
 */
#ifndef PBS_HPACK_H
#define PBS_HPACK_H

#include <stddef.h>
#include <stdint.h>

/* Size of the dynamic table that the peer's encoder may use (RFC 7541, 4.2; the default). */
#define PBS_HPACK_TABLE_SIZE 4096u

/* Longest name or value that is decoded; a longer one is PBS_E_TOO_LARGE. */
#define PBS_HPACK_STRING_MAX 16384u

/* Rows of the static table that requests use (RFC 7541, Appendix A). */
enum {
    PBS_HPACK_AUTHORITY = 1,
    PBS_HPACK_METHOD_GET = 2,
    PBS_HPACK_METHOD_POST = 3,
    PBS_HPACK_PATH = 4,
    PBS_HPACK_SCHEME_HTTPS = 7,
    PBS_HPACK_CONTENT_TYPE = 31,
};

struct pbs_hpack;

/* PBS_OK or PBS_E_NOMEM. */
int pbs_hpack_new(struct pbs_hpack **out);
void pbs_hpack_free(struct pbs_hpack *decoder);

/* Called for each header; the bytes are borrowed until it returns. */
typedef void pbs_hpack_header(void *context, const uint8_t *name, size_t name_len,
                              const uint8_t *value, size_t value_len);

/*
 * Decode one complete header block. Each header is given to on_header as it is decoded, so some may
 * have been given when an error is returned: PBS_E_PROTOCOL (not HPACK), PBS_E_TOO_LARGE,
 * PBS_E_NOMEM. After an error the decoder's state is that of nobody, and the connection must end
 * (RFC 7540, 4.3).
 */
int pbs_hpack_decode(struct pbs_hpack *decoder, const uint8_t *block, size_t len,
                     pbs_hpack_header *on_header, void *context);

/*
 * Encoding, stateless: an indexed row of the static table, or a literal value under a static row's
 * name, not indexed and not Huffman coded. They return how many bytes were written at out;
 * pbs_hpack_literal_size tells it beforehand.
 */
size_t pbs_hpack_indexed(uint8_t *out, unsigned row);
size_t pbs_hpack_literal(uint8_t *out, unsigned row, const void *value, size_t len);
size_t pbs_hpack_literal_size(unsigned row, size_t len);

#endif
