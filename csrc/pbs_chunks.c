#define _GNU_SOURCE
#include "pbs_chunks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pbs_blob.h"
#include "pbs_error.h"

void pbs_digest_hex(const uint8_t digest[PBS_DIGEST_SIZE], char out[64])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < PBS_DIGEST_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
}

void pbs_chunk_name(const uint8_t digest[PBS_DIGEST_SIZE], char out[PBS_CHUNK_NAME_SIZE])
{
    pbs_digest_hex(digest, out + 5);
    for (int i = 0; i < 4; i++)
        out[i] = out[5 + i];
    out[4] = '/';
    out[PBS_CHUNK_NAME_SIZE - 1] = '\0';
}

/* O_NONBLOCK: a pipe in a chunk's place must not hang the push. */
#define CHUNK_FLAGS (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

/* The folder that the first four characters of a name are, which must not be a link. */
static int open_folder(int chunks_fd, const char *name)
{
    char folder[5] = "";
    struct stat st;

    memcpy(folder, name, 4);
    int fd = openat(chunks_fd, folder, O_PATH | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY);
    if (fd < 0 && errno == ENOTDIR && fstatat(chunks_fd, folder, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode))
        errno = ELOOP;
    return fd;
}

/*
 * Open a chunk's file, following no symbolic link in any part of its name: in one system call where
 * the kernel has it (Linux 5.6) and lets us call it. Otherwise, as in some containers and under
 * emulators, step by step.
 */
static int open_below(int chunks_fd, const char *name)
{
    static atomic_int without_openat2;

    if (!without_openat2) {
        struct open_how how = {.flags = (unsigned)CHUNK_FLAGS,
                               .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
        int fd = (int)syscall(SYS_openat2, chunks_fd, name, &how, sizeof how);
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
            return fd;
        if (errno == ENOSYS)
            without_openat2 = 1;
    }
    int folder_fd = open_folder(chunks_fd, name);
    if (folder_fd < 0)
        return folder_fd;
    int fd = openat(folder_fd, name + 5, CHUNK_FLAGS);
    int error = errno;
    close(folder_fd);
    errno = error;
    return fd;
}

static int open_error(int error, int *out_errno)
{
    *out_errno = error;
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return PBS_E_NOT_FOUND;
    case ELOOP:
    case ENXIO: /* a socket, or a pipe without a writer */
        return PBS_E_NOT_REGULAR;
    default:
        return PBS_E_IO;
    }
}

int pbs_chunk_open(int chunks_fd, const uint8_t digest[PBS_DIGEST_SIZE], int *out_fd,
                   size_t *out_size, int *out_errno)
{
    char name[PBS_CHUNK_NAME_SIZE];
    struct stat st;
    int status = PBS_OK;

    pbs_chunk_name(digest, name);
    int fd = open_below(chunks_fd, name);
    if (fd < 0)
        return open_error(errno, out_errno);
    if (fstat(fd, &st) < 0) {
        *out_errno = errno;
        status = PBS_E_IO;
    } else if (!S_ISREG(st.st_mode)) {
        status = PBS_E_NOT_REGULAR;
    } else if (st.st_size == 0) {
        status = PBS_E_EMPTY;
    } else if (st.st_size < (off_t)PBS_CHUNK_FILE_MIN) {
        status = PBS_E_LENGTH;
    } else if (st.st_size > (off_t)PBS_CHUNK_FILE_MAX) {
        status = PBS_E_TOO_LARGE;
    }
    if (status) {
        close(fd);
        return status;
    }
    *out_fd = fd;
    *out_size = (size_t)st.st_size;
    return PBS_OK;
}

static int read_all(int fd, uint8_t *out, size_t size, int *out_errno)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = read(fd, out + done, size - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            return PBS_E_SHRUNK;
        } else if (errno != EINTR) {
            *out_errno = errno;
            return PBS_E_IO;
        }
    }
    return PBS_OK;
}

/* Read and check in pieces that stay in a core's cache: the CRC then reads no memory again. */
#define PIECE ((size_t)128 << 10)

int pbs_chunk_read(int fd, size_t size, uint64_t plain_size, int want_encrypted, uint8_t *out,
                   int *out_errno)
{
    struct pbs_blob_header header;
    size_t done = size < PIECE ? size : PIECE;

    int status = read_all(fd, out, done, out_errno);
    if (!status)
        status = pbs_blob_read_header(out, done, &header);
    if (status)
        return status;
    uint32_t crc = pbs_crc32(0, out + header.size, done - header.size);
    while (done < size) {
        size_t n = size - done < PIECE ? size - done : PIECE;
        status = read_all(fd, out + done, n, out_errno);
        if (status)
            return status;
        crc = pbs_crc32(crc, out + done, n);
        done += n;
    }
    if (crc != header.crc)
        return PBS_E_CRC;
    if (want_encrypted != PBS_CHUNK_EITHER && header.encrypted != (want_encrypted != 0))
        return PBS_E_CRYPT;
    if (plain_size != PBS_CHUNK_ANY_SIZE && header.kind == PBS_BLOB_PLAIN &&
        size - header.size != plain_size)
        return PBS_E_LENGTH;
    return PBS_OK;
}

void pbs_chunk_inodes(int chunks_fd, const uint8_t *digests, size_t stride,
                      const uint32_t *positions, size_t n, uint64_t *out)
{
    char name[PBS_CHUNK_NAME_SIZE];
    struct stat st;

    for (size_t i = 0; i < n; i++) {
        pbs_chunk_name(digests + positions[i] * stride, name);
        out[i] = fstatat(chunks_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
    }
}
