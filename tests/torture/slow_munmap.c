/* Undoing a large mapping takes time; this makes it take 3 ms always, for a small database too.
 * SQLite undoes its mapping between reading the wal-index and using it, in every checkpoint that
 * comes upon new commits: the window in which a writer may restart the log. LD_PRELOAD this. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int munmap(void *address, size_t length)
{
    if (length >= 1048576) {
        struct timespec pause = {0, 3000000};
        nanosleep(&pause, NULL);
    }
    return (int)syscall(SYS_munmap, address, length);
}
