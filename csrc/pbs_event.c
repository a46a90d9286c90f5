#define _GNU_SOURCE
#include "pbs_event.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pbs_error.h"

int pbs_event_open(struct pbs_event *event)
{
    event->set = 0;
    event->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return event->fd < 0 ? PBS_E_IO : PBS_OK;
}

void pbs_event_close(struct pbs_event *event)
{
    if (event->fd >= 0)
        close(event->fd);
}

void pbs_event_set(struct pbs_event *event)
{
    uint64_t one = 1;

    if (event->set)
        return;
    event->set = 1;
    while (write(event->fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

void pbs_event_clear(struct pbs_event *event)
{
    uint64_t count;

    if (!event->set)
        return;
    event->set = 0;
    while (read(event->fd, &count, sizeof count) < 0 && errno == EINTR)
        continue;
}
