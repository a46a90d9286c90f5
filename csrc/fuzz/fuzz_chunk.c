/*
 * Chunk files: opened, measured, read and checked, from a real folder.
 *
 * Input: how the file is made (kind, a CRC that is right or not, up to 300 KB of zeros behind the
 * bytes), what is expected of it, how many bytes are gone when it is read, and its bytes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "pbs_blob.h"
#include "pbs_chunks.h"

static const uint8_t magics[4][8] = {
    {66, 171, 56, 7, 190, 131, 112, 161},
    {49, 185, 88, 66, 111, 182, 163, 127},
    {123, 103, 133, 190, 34, 45, 76, 240},
    {230, 89, 27, 191, 11, 191, 216, 11},
};
static const uint8_t digest[PBS_DIGEST_SIZE] = {0xab, 0xcd};

static int folder = -1, file = -1;

/* One chunk, whose content each input writes anew; the memory of /dev/shm is fast. */
static void make_store(void)
{
    char path[] = "/dev/shm/pbs-fuzz-XXXXXX", name[PBS_CHUNK_NAME_SIZE];
    CHECK(mkdtemp(path) != NULL);
    folder = open(path, O_RDONLY | O_DIRECTORY);
    pbs_chunk_name(digest, name);
    CHECK(folder >= 0 && mkdirat(folder, "abcd", 0700) == 0);
    file = openat(folder, name, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0);
}

/* What pbs_chunk_read has to say of these bytes. */
static int expected_of(const uint8_t *bytes, size_t size, uint64_t plain_size, int want_encrypted)
{
    enum pbs_blob_kind kind;
    int status = pbs_blob_check(bytes, size, 1, &kind);
    int encrypted = kind >= PBS_BLOB_ENCRYPTED;
    if (status)
        return status;
    if (want_encrypted != PBS_CHUNK_EITHER && encrypted != want_encrypted)
        return PBS_E_CRYPT;
    if (kind == PBS_BLOB_PLAIN && plain_size != PBS_CHUNK_ANY_SIZE && plain_size != size - 12)
        return PBS_E_LENGTH;
    return PBS_OK;
}

static void check_read(int fd, const uint8_t *bytes, size_t size, size_t left, uint64_t plain_size,
                       int want_encrypted)
{
    int error = 0;
    uint8_t *out = allocate(size);
    int status = pbs_chunk_read(fd, size, plain_size, want_encrypted, out, &error);
    if (left == size) {
        CHECK(status == expected_of(bytes, size, plain_size, want_encrypted));
        CHECK(status || memcmp(out, bytes, size) == 0);
    } else { /* the header may tell what is wrong before the end is reached */
        CHECK(status == PBS_E_SHRUNK || status == PBS_E_MAGIC || status == PBS_E_LENGTH);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned how = take_u8(&in), kind = how % 5;
    size_t zeros = how & 8 ? take_u16(&in) * 5u : 0, lost = how & 16 ? take_u16(&in) : 0;
    int want_encrypted = (int)(how >> 6) % 3 - 1, fd = -1, error = 0;
    uint64_t plain_size = how & 32 ? PBS_CHUNK_ANY_SIZE : take_u8(&in) + zeros;
    size_t len = in.left + zeros, found = 0;

    if (file < 0)
        make_store();
    uint8_t *bytes = allocate(len);
    memset(bytes, 0, len);
    if (in.left)
        memcpy(bytes, in.at, in.left);
    if (kind < 4 && len >= 12) {
        size_t header = kind >= 2 && len >= 44 ? 44 : 12;
        memcpy(bytes, magics[kind], 8);
        if (!(how & 128)) /* a right CRC, as a rule */
            pbs_store_le32(bytes + 8, pbs_crc32(0, bytes + header, len - header));
    }
    CHECK(ftruncate(file, 0) == 0 && pwrite(file, bytes, len, 0) == (ssize_t)len);
    int status = pbs_chunk_open(folder, digest, &fd, &found, &error);
    CHECK(status == (len == 0 ? PBS_E_EMPTY : len < PBS_CHUNK_FILE_MIN ? PBS_E_LENGTH : PBS_OK));
    if (!status) {
        size_t left = lost < len ? len - lost : 0;
        CHECK(found == len && ftruncate(file, (off_t)left) == 0);
        check_read(fd, bytes, len, left, plain_size, want_encrypted);
        close(fd);
    }
    free(bytes);
    return 0;
}
