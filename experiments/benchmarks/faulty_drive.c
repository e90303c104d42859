/* A Drive that fails or is slow: stands before the C library's file operations (LD_PRELOAD) and lets some of them fail, or ends the
   process; each of them first waits for the milliseconds of the variable FAULTS_WAIT, as for an answer over a network.

   Only operations on files below the folder of the variable FAULTS_BELOW count. Which of them fail is set by `faults_arm`. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN, STAT, LIST, READ, WRITE, SYNC, DELETE, RENAME, MKDIR, KINDS };

static long seen[KINDS], total;
static int armed_kind = -1, armed_kill, armed_errno = EIO;
static long armed_at, armed_every;

/* kind: -1 none, KINDS all of them; at: the first that fails, from 1; every: each so many after it, 0 none; kill: the process ends. */
void faults_arm(int kind, long at, long every, int kill_it, int number) {
    memset(seen, 0, sizeof seen);
    total = 0;
    armed_kind = kind, armed_at = at, armed_every = every, armed_kill = kill_it, armed_errno = number;
}

long faults_seen(int kind) { return kind == KINDS ? total : seen[kind]; }

static int below(const char *path) {
    const char *folder = getenv("FAULTS_BELOW");
    char full[PATH_MAX], here[PATH_MAX];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(full, sizeof full, "%s/%s", here, path);
        path = full;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

static int fails(int kind) {
    const char *wait = getenv("FAULTS_WAIT");
    if (wait) usleep(1000 * atoi(wait));
    if (armed_kind < 0) return 0;
    total++, seen[kind]++;
    if (armed_kind != KINDS && armed_kind != kind) return 0;
    long now = armed_kind == KINDS ? total : seen[kind];
    if (now < armed_at || (now > armed_at && (!armed_every || (now - armed_at) % armed_every))) return 0;
    if (armed_kill) kill(getpid(), SIGKILL);
    errno = armed_errno;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (below(path) && fails(OPEN)) return -1; \
        return REAL(name)(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define STATS(name, kind) \
    int name(const char *path, struct kind *about) { \
        if (below(path) && fails(STAT)) return -1; \
        return REAL(name)(path, about); \
    }
STATS(stat, stat)
STATS(stat64, stat64)
STATS(lstat, stat)
STATS(lstat64, stat64)

DIR *opendir(const char *path) { return below(path) && fails(LIST) ? NULL : REAL(opendir)(path); }
ssize_t read(int fd, void *buffer, size_t n) { return below_fd(fd) && fails(READ) ? -1 : REAL(read)(fd, buffer, n); }
ssize_t write(int fd, const void *buffer, size_t n) { return below_fd(fd) && fails(WRITE) ? -1 : REAL(write)(fd, buffer, n); }
int fsync(int fd) { return below_fd(fd) && fails(SYNC) ? -1 : REAL(fsync)(fd); }
int unlink(const char *path) { return below(path) && fails(DELETE) ? -1 : REAL(unlink)(path); }
int unlinkat(int at, const char *path, int flags) {
    return (at == AT_FDCWD ? below(path) : below_fd(at)) && fails(DELETE) ? -1 : REAL(unlinkat)(at, path, flags);
}
int rmdir(const char *path) { return below(path) && fails(DELETE) ? -1 : REAL(rmdir)(path); }
int rename(const char *from, const char *to) { return below(to) && fails(RENAME) ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return below(path) && fails(MKDIR) ? -1 : REAL(mkdir)(path, mode); }
