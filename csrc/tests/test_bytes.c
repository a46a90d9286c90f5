#include "pbs_bytes.h"

#include "check.h"

static const uint8_t bytes[9] = {0xff, 0x01, 0x02, 0x03, 0x84, 0x05, 0x06, 0x07, 0x88};

static void loads_are_in_the_named_order_at_any_address(void)
{
    CHECK(pbs_load_le32(bytes + 1) == 0x84030201u);
    CHECK(pbs_load_le64(bytes + 1) == 0x8807060584030201u);
    CHECK(pbs_load_be16(bytes + 1) == 0x0102u);
    CHECK(pbs_load_be24(bytes + 1) == 0x010203u);
    CHECK(pbs_load_be32(bytes + 1) == 0x01020384u);
    CHECK(pbs_load_be64(bytes + 1) == 0x0102038405060788u);
}

static void stores_are_what_loads_read(void)
{
    uint8_t out[9] = {0};
    pbs_store_le32(out + 1, 0x84030201u);
    CHECK(memcmp(out + 1, bytes + 1, 4) == 0);
    pbs_store_le64(out + 1, 0x8807060584030201u);
    CHECK(memcmp(out + 1, bytes + 1, 8) == 0);
    memset(out, 0, sizeof out);
    pbs_store_be16(out + 1, 0x0102u);
    CHECK(memcmp(out + 1, bytes + 1, 2) == 0 && out[3] == 0);
    pbs_store_be24(out + 1, 0xaa010203u);
    CHECK(memcmp(out + 1, bytes + 1, 3) == 0 && out[4] == 0);
    pbs_store_be32(out + 1, 0x01020384u);
    CHECK(memcmp(out + 1, bytes + 1, 4) == 0 && out[5] == 0);
    pbs_store_be64(out + 1, 0x0102038405060788u);
    CHECK(memcmp(out + 1, bytes + 1, 8) == 0);
}

int main(void)
{
    RUN(loads_are_in_the_named_order_at_any_address);
    RUN(stores_are_what_loads_read);
    return 0;
}
