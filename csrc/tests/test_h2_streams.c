#include "pbs_h2_streams.h"

#include "check.h"
#include "pbs_error.h"

static void what_was_used_is_granted_anew_at_half(void)
{
    struct pbs_h2_receive_window window = {0};
    uint32_t more;

    pbs_h2_receive_window_widen(&window, 1000);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 499, &more), PBS_OK);
    CHECK_EQUAL(more, 0);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 1, &more), PBS_OK);
    CHECK_EQUAL(more, 500);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 1000, &more), PBS_OK);
    CHECK_EQUAL(more, 1000);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 1001, &more), PBS_E_FLOW);
}

static void a_widened_window_moves_in_larger_steps(void)
{
    struct pbs_h2_receive_window window = {0};
    uint32_t more;

    pbs_h2_receive_window_widen(&window, 100);
    pbs_h2_receive_window_widen(&window, 1000);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 499, &more), PBS_OK);
    CHECK_EQUAL(more, 0);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 601, &more), PBS_OK);
    CHECK_EQUAL(more, 1100);
}

static void the_largest_window_does_not_overflow(void)
{
    struct pbs_h2_receive_window window = {0};
    uint32_t more;

    pbs_h2_receive_window_widen(&window, PBS_H2_MAX_WINDOW);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 0x3fffffff, &more), PBS_OK);
    CHECK_EQUAL(more, 0);
    CHECK_EQUAL(pbs_h2_receive_window_use(&window, 0x40000000, &more), PBS_OK);
    CHECK_EQUAL(more, PBS_H2_MAX_WINDOW);
}

static void a_send_window_has_a_maximum_but_no_minimum(void)
{
    int64_t window = PBS_H2_DEFAULT_WINDOW;

    CHECK_EQUAL(pbs_h2_send_window_change(&window, -100000), PBS_OK);
    CHECK_EQUAL(window, PBS_H2_DEFAULT_WINDOW - 100000);
    CHECK_EQUAL(pbs_h2_send_window_change(&window, PBS_H2_MAX_WINDOW - window), PBS_OK);
    CHECK_EQUAL(pbs_h2_send_window_change(&window, 1), PBS_E_FLOW);
}

int main(void)
{
    RUN(what_was_used_is_granted_anew_at_half);
    RUN(a_widened_window_moves_in_larger_steps);
    RUN(the_largest_window_does_not_overflow);
    RUN(a_send_window_has_a_maximum_but_no_minimum);
    return 0;
}
