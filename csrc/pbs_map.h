/*
 * Read-only mapping of a regular file that survives the file shrinking.
 *
 * Touching a page of a mapping that lies beyond the file's end raises SIGBUS.  Our mappings are read
 * by numpy and hashlib, far outside of these functions, so "check the size, then read" cannot help.
 * Instead a SIGBUS handler puts zero pages where the file's pages are gone and marks the mapping;
 * whoever read from it asks pbs_map_shrunk() before trusting what was read.  The same covers pages
 * that the disk or the network file system fails to deliver.
 *
 * Signal dispositions belong to the process, so the handler and the table of mappings behind it are
 * the one piece of process-wide state of this library.  The handler is installed with the first
 * mapping and stays.  Any SIGBUS that is not about one of our mappings goes to the handler that
 * was there before.
 *
 * Thread-safety: all functions may be called from any thread; one mapping must not be closed while
 * another thread uses it.  After fork() both processes may go on using and closing their copies.
 */
#ifndef PBS_MAP_H
#define PBS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * How many non-empty mappings can exist at once in a process.  48 groups pushed at once, each with two
 * snapshots of 256 indexes, which is what a session can write, take three quarters of them.
 */
#define PBS_MAP_LIMIT 32768

struct pbs_map {
    const uint8_t *base; /* page aligned; NULL for an empty file */
    size_t length;       /* the file's length when it was mapped */
    int fd;              /* kept to ask for the file's length later */
    size_t slot;         /* this mapping's place in the handler's table */
};

/*
 * Map the whole file `path` (relative to directory descriptor `dir_fd`, or AT_FDCWD).
 *
 * A symbolic link as last component is not followed.  On success the caller owns *out and closes it
 * with pbs_map_close(); the pages come in when they are touched.
 * Errors: PBS_E_NOT_FOUND, PBS_E_NOT_REGULAR, PBS_E_TOO_LARGE (for this address space), PBS_E_FULL
 * (PBS_MAP_LIMIT reached), PBS_E_IO (*out_errno says why).
 */
int pbs_map_open(int dir_fd, const char *path, struct pbs_map *out, int *out_errno);

/*
 * Map the whole file that `fd` is open for reading on, which stays the caller's: one without a name,
 * say.  Otherwise as pbs_map_open().
 */
int pbs_map_open_again(int fd, struct pbs_map *out, int *out_errno);

/* Unmap and close.  No pointer into the mapping may be used from here on. */
void pbs_map_close(struct pbs_map *map);

/* Whether bytes of the mapping were lost: the file is shorter than it was, or a page failed. */
bool pbs_map_shrunk(const struct pbs_map *map);

/*
 * Let the kernel take back the pages of `length` bytes at `from`, after a pass over them.  They come
 * in again when they are touched; until then they do not count as this process's memory.  Bytes that
 * are in none of our mappings are left alone; a mapping that they are in must stay open meanwhile.
 */
void pbs_map_release(const void *from, size_t length);

#endif
