/*
 * Codes that every C function of this project returns.
 *
 * A function returns PBS_OK or one of the negative codes below; results go to `out_*` parameters,
 * which are untouched on failure unless a header says otherwise.  The codes say *what* is wrong,
 * never where: the caller adds the file, the position or the digest.
 *
 * src/pbs_push/_native/status.py turns each code into an exception; a test parses this file and
 * fails where one is missing there, so keep one `PBS_E_NAME = -number,` a line.
 */
#ifndef PBS_ERROR_H
#define PBS_ERROR_H

enum pbs_status {
    PBS_OK = 0,
    PBS_E_NOMEM = -1,        /* memory could not be allocated */
    PBS_E_INVALID = -2,      /* the caller's mistake: an argument that no input can justify */
    PBS_E_IO = -3,           /* a system call failed; its errno is in an out parameter */
    PBS_E_NOT_FOUND = -4,    /* the file is not there */
    PBS_E_TRUNCATED = -5,    /* shorter than its own header */
    PBS_E_MAGIC = -6,        /* the first bytes are not those of any known kind */
    PBS_E_LENGTH = -7,       /* the length contradicts what the header says */
    PBS_E_CRC = -8,          /* the CRC-32 differs: bytes were damaged */
    PBS_E_TOO_LARGE = -9,    /* larger than the format or the protocol allows */
    PBS_E_EMPTY = -10,       /* nothing in it where the format demands something */
    PBS_E_ORDER = -11,       /* end offsets of a dynamic index do not increase */
    PBS_E_SHRUNK = -12,      /* the file lost bytes while it was mapped or read */
    PBS_E_NOT_REGULAR = -13, /* a directory, symbolic link, device or pipe, not a file */
    PBS_E_CRYPT = -14,       /* encrypted where plain was expected, or the reverse */
    PBS_E_PROTOCOL = -15,    /* the peer's bytes break HTTP/2 or the backup protocol */
    PBS_E_FLOW = -16,        /* the peer broke, or we would break, flow control */
    PBS_E_CLOSED = -17,      /* the connection or object is closed */
    PBS_E_CHUNK_SIZE = -18,  /* the chunk size in a fixed index is not a power of two */
    PBS_E_FULL = -19,        /* a fixed table (mappings, rows) has no room left */
};

#endif
