/*
 * Preloaded into a program, it makes fsync and fdatasync lie or fail.
 *
 *   SYNC=lie                                   they do nothing and say that they did
 *   SYNC=fsync|fdatasync FILE=NAME AFTER=COUNT the call fails once, as the kernel tells of an error once: for a file or
 *                                              directory whose path ends with NAME, when COUNT such calls went well
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *call, int file)
{
    static int count;
    const char *wanted = getenv("SYNC"), *name = getenv("FILE"), *after = getenv("AFTER");
    char link[64], path[4096];
    ssize_t length;

    if (!wanted || strcmp(wanted, call) != 0 || !name || !after)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strcmp(strrchr(path, '/') ? strrchr(path, '/') + 1 : path, name) != 0)
        return 0;
    return count++ == atoi(after);
}

static int synced(const char *name, long call, int file)
{
    const char *how = getenv("SYNC");

    if (how && strcmp(how, "lie") == 0)
        return 0;
    if (fails(name, file)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return synced("fsync", SYS_fsync, file); }
int fdatasync(int file) { return synced("fdatasync", SYS_fdatasync, file); }
