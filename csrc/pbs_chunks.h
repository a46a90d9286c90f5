/*
 * One chunk file of a chunk store: opened, measured, read into the caller's memory and checked.
 * Layout and limits: protocol/datastore.md, "Layout", "Data blob", "Sizes".
 * Thread-safe: nothing is shared. Files are hostile.
 */
#ifndef PBS_CHUNKS_H
#define PBS_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

#include "pbs_bytes.h"

/* Least and largest blob of a chunk that can be sent (protocol/backup.md, "Requests"). */
#define PBS_CHUNK_FILE_MIN 13u
#define PBS_CHUNK_FILE_MAX 16777260u

/* "HHHH/" + 64 hex digits + NUL. */
#define PBS_CHUNK_NAME_SIZE 70u

/* Write the 64 lower case hex digits of a digest at out, without a NUL. */
void pbs_digest_hex(const uint8_t digest[PBS_DIGEST_SIZE], char out[64]);

/* Write the path of a digest's chunk relative to `.chunks`. */
void pbs_chunk_name(const uint8_t digest[PBS_DIGEST_SIZE], char out[PBS_CHUNK_NAME_SIZE]);

/*
 * Open the chunk of digest below the folder `.chunks` (an open directory). On success the caller
 * owns *out_fd, and *out_size is the file's length, within the limits above.
 * PBS_E_NOT_FOUND, PBS_E_NOT_REGULAR (symbolic links below `.chunks` are not followed),
 * PBS_E_EMPTY (0 bytes), PBS_E_LENGTH (too short), PBS_E_TOO_LARGE, PBS_E_IO with *out_errno.
 */
int pbs_chunk_open(int chunks_fd, const uint8_t digest[PBS_DIGEST_SIZE], int *out_fd,
                   size_t *out_size, int *out_errno);

/* What is to be checked of a chunk's encryption and plain bytes, where nothing is known of them. */
#define PBS_CHUNK_EITHER (-1)
#define PBS_CHUNK_ANY_SIZE UINT64_MAX

/*
 * Read size bytes of an open chunk to out (of at least that length) and check the blob: magic,
 * header, CRC-32, that it is encrypted exactly if want_encrypted (1 or 0, or PBS_CHUNK_EITHER), and
 * that a plain blob holds plain_size bytes, or PBS_CHUNK_ANY_SIZE (a compressed or encrypted one
 * cannot be told without decoding it).
 * PBS_E_SHRUNK (fewer bytes than the size), PBS_E_MAGIC, PBS_E_LENGTH, PBS_E_CRC, PBS_E_CRYPT,
 * PBS_E_IO with *out_errno. On an error the contents of out are unspecified.
 */
int pbs_chunk_read(int fd, size_t size, uint64_t plain_size, int want_encrypted, uint8_t *out,
                   int *out_errno);

/*
 * The inode numbers of the chunks at these positions, in the order of which a spinning disk reads
 * them with short seeks; 0 where there is no such file. digests and stride: see pbs_index.h.
 */
void pbs_chunk_inodes(int chunks_fd, const uint8_t *digests, size_t stride,
                      const uint32_t *positions, size_t n, uint64_t *out);

#endif
