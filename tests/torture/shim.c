/* Stands between a program and libc, for the calls that touch one database's files.
 *
 * It counts them, logs what they do (a power cut is built from that), and at a chosen one kills
 * the process, fails, stops, or turns the clock. The control block is shared with the tester, so
 * that its counts outlive the process. See shim.py for the same structures in Python.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, SYNC, TRUNCATE, MMAP, UNLINK, LOCK, RENAME, NOTE, OPS };
enum { DB, WAL, SHM, JOURNAL, DIRECTORY, SCRATCH, KINDS, NONE };
enum { NOTHING, KILL_BEFORE, KILL_AFTER, FAIL, SHORT, STOP, TIMER, JUMP };

struct control {
    char database[1024];
    char scratch[1024];
    uint32_t op_mask, kind_mask;
    int64_t nth;
    uint32_t action, error;
    int64_t argument;
    uint32_t persist, pad;
    int64_t seen, fired;
    int64_t first_ns, last_ns;
    int64_t wall_jump, monotonic_jump; /* nanoseconds, in force after JUMP */
    int64_t hurry; /* SQLite's own waits, of ten seconds and more where locks fail, are skipped */
    int64_t counts[OPS][KINDS];
};

struct log_head {
    volatile uint32_t lock, full;
    uint64_t used, size;
};

struct record {
    uint32_t op, kind, pid, error;
    uint64_t inode;
    int64_t offset, length;
    uint32_t data, flags;
};

#define FDS 4096
static struct control *control;
static struct log_head *log_head;
static unsigned char kinds[FDS]; /* kind + 1 */
static size_t directory_length;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void *map_file(const char *path, size_t *size) {
    REAL(open64);
    static void *(*real_mmap)(void *, size_t, int, int, int, off64_t);
    if (!real_mmap) real_mmap = dlsym(RTLD_NEXT, "mmap64");
    int fd = real(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return NULL;
    void *at = real_mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    *size = st.st_size;
    return at == MAP_FAILED ? NULL : at;
}

int shim_attach(const char *control_path, const char *log_path) {
    size_t size;
    memset(kinds, 0, sizeof kinds);
    if (log_path) {
        log_head = map_file(log_path, &size);
        if (!log_head) return -1;
        log_head->size = size;
    }
    control = map_file(control_path, &size);
    if (!control) return -1;
    directory_length = strrchr(control->database, '/') - control->database;
    return 0;
}

static int kind_of(const char *path) {
    if (!control || !path) return NONE;
    size_t n = strlen(control->database);
    if (!strncmp(path, control->database, n)) {
        const char *rest = path + n;
        if (!*rest) return DB;
        if (!strcmp(rest, "-wal")) return WAL;
        if (!strcmp(rest, "-shm")) return SHM;
        if (!strcmp(rest, "-journal")) return JOURNAL;
    }
    if (strlen(path) == directory_length && !strncmp(path, control->database, directory_length))
        return DIRECTORY;
    n = strlen(control->scratch);
    if (n && !strncmp(path, control->scratch, n)) return SCRATCH;
    return NONE;
}

static int kind_of_fd(int fd) {
    return control && fd >= 0 && fd < FDS && kinds[fd] ? kinds[fd] - 1 : NONE;
}

static int64_t now(void) {
    struct timespec t;
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((noreturn)) static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void start_timer(int64_t ns) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {ns / 1000000000, ns % 1000000000}};
    timer_t timer;
    if (ns <= 0 || timer_create(CLOCK_MONOTONIC, &event, &timer)) die();
    timer_settime(timer, 0, &when, NULL);
}

/* What happens at this call: an action that the caller must carry out, or NOTHING. */
static int meet(int op, int kind) {
    if (!control || kind >= KINDS) return NOTHING;
    __sync_fetch_and_add(&control->counts[op][kind], 1);
    if (!(control->op_mask >> op & 1) || !(control->kind_mask >> kind & 1)) return NOTHING;
    int64_t at = __sync_add_and_fetch(&control->seen, 1), time = now();
    if (!control->first_ns) control->first_ns = time;
    control->last_ns = time;
    if (!control->nth || at < control->nth || (at > control->nth && !control->persist))
        return NOTHING;
    __sync_fetch_and_add(&control->fired, 1);
    switch (control->action) {
    case KILL_BEFORE: die();
    case STOP: kill(getpid(), SIGSTOP); return NOTHING;
    case TIMER: start_timer(control->argument); return NOTHING;
    case JUMP:
        control->wall_jump = control->argument;
        if (control->error) control->monotonic_jump = control->argument;
        return NOTHING;
    }
    return control->action;
}

static void after(int action) {
    if (action == KILL_AFTER) die();
}

static void lock_log(void) {
    while (__sync_lock_test_and_set(&log_head->lock, 1)) sched_yield();
}

static void begin(int kind) {
    if (log_head && kind < KINDS) lock_log();
}

/* Log a call that was carried out, or failed, between begin() and here. */
static void end(int op, int kind, int fd, uint64_t inode, int64_t offset, int64_t length,
                const void *data, size_t bytes, int flags, int failed) {
    int saved = errno;
    if (!log_head || kind >= KINDS) return;
    struct stat st;
    if (fd >= 0 && !fstat(fd, &st)) inode = st.st_ino;
    size_t need = sizeof(struct record) + ((bytes + 7) & ~(size_t)7);
    if (kind == SHM || kind == SCRATCH) {
        /* neither outlives a power cut */
    } else if (log_head->used + need + sizeof(struct log_head) > log_head->size) {
        log_head->full = 1;
    } else {
        char *at = (char *)log_head + sizeof(struct log_head) + log_head->used;
        struct record r = {op, kind, getpid(), failed ? saved : 0, inode, offset, length,
                           bytes, flags};
        memcpy(at, &r, sizeof r);
        if (bytes) memcpy(at + sizeof r, data, bytes);
        log_head->used += need;
    }
    __sync_lock_release(&log_head->lock);
    errno = saved;
}

void shim_note(int64_t what, int64_t value) {
    if (!log_head) return;
    begin(DB);
    end(NOTE, DB, -1, 0, what, value, NULL, 0, 0, 0);
}

/* Note what a new descriptor is of, and whether opening it made or emptied the file. */
static int opened(int fd, int kind, int flags, int existed) {
    int created = fd >= 0 && (flags & O_CREAT) && !existed;
    int truncated = fd >= 0 && (flags & O_TRUNC);
    if (fd >= 0 && fd < FDS) kinds[fd] = kind + 1;
    end(OPEN, kind, fd, 0, 0, 0, NULL, 0, created | truncated << 1, fd < 0);
    return fd;
}

#define OPENER(name, args, path) \
    { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list list; \
            va_start(list, flags); \
            mode = va_arg(list, mode_t); \
            va_end(list); \
        } \
        int kind = kind_of(path); \
        if (kind == NONE) { \
            int fd = real args; \
            if (fd >= 0 && fd < FDS) kinds[fd] = 0; \
            return fd; \
        } \
        int action = meet(OPEN, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        begin(kind); \
        struct stat st; \
        int existed = !stat(path, &st); \
        int fd = opened(real args, kind, flags, existed); \
        after(action); \
        return fd; \
    }

int open(const char *path, int flags, ...) OPENER(open, (path, flags, mode), path)
int open64(const char *path, int flags, ...) OPENER(open64, (path, flags, mode), path)
int openat(int at, const char *path, int flags, ...) OPENER(openat, (at, path, flags, mode), path)
int openat64(int at, const char *path, int flags, ...)
    OPENER(openat64, (at, path, flags, mode), path)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < FDS) kinds[fd] = 0;
    return real(fd);
}

#define READER(name, params, args) \
    ssize_t name params { \
        REAL(name); \
        int kind = kind_of_fd(fd); \
        if (kind == NONE) return real args; \
        int action = meet(READ, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        if (action == SHORT) n /= 2; \
        ssize_t got = real args; \
        after(action); \
        return got; \
    }

READER(read, (int fd, void *to, size_t n), (fd, to, n))
READER(pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
READER(pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))

#define WRITER(name, params, args, position) \
    ssize_t name params { \
        REAL(name); \
        int kind = kind_of_fd(fd); \
        if (kind == NONE) return real args; \
        int action = meet(WRITE, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        if (action == SHORT && n > 1) n /= 2; \
        begin(kind); \
        int64_t offset = position; \
        ssize_t done = real args; \
        end(WRITE, kind, fd, 0, offset, done, from, done > 0 ? done : 0, 0, done < 0); \
        after(action); \
        return done; \
    }

WRITER(write, (int fd, const void *from, size_t n), (fd, from, n), lseek(fd, 0, SEEK_CUR))
WRITER(pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at), at)
WRITER(pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at), at)

#define SYNCER(name) \
    int name(int fd) { \
        REAL(name); \
        int kind = kind_of_fd(fd); \
        if (kind == NONE) return real(fd); \
        int action = meet(SYNC, kind), done = -1; \
        begin(kind); \
        if (action == FAIL) errno = control->error; \
        else done = 0; /* the tester's files live in memory: nothing to wait for */ \
        end(SYNC, kind, fd, 0, 0, 0, NULL, 0, 0, done < 0); \
        after(action); \
        return done; \
    }

SYNCER(fsync)
SYNCER(fdatasync)

/* All file systems: of the database, what matters is that the names in its directory are. */
void sync(void) {
    static void (*real)(void);
    if (!real) real = dlsym(RTLD_NEXT, "sync");
    if (!control) { real(); return; }
    begin(DIRECTORY);
    end(SYNC, DIRECTORY, -1, 0, 0, 0, NULL, 0, 0, 0);
}

#define TRUNCATER(name, type) \
    int name(int fd, type size) { \
        REAL(name); \
        int kind = kind_of_fd(fd); \
        if (kind == NONE) return real(fd, size); \
        int action = meet(TRUNCATE, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        begin(kind); \
        int done = real(fd, size); \
        end(TRUNCATE, kind, fd, 0, size, 0, NULL, 0, 0, done < 0); \
        after(action); \
        return done; \
    }

TRUNCATER(ftruncate, off_t)
TRUNCATER(ftruncate64, off64_t)

#define MAPPER(name, type) \
    void *name(void *at, size_t n, int prot, int flags, int fd, type offset) { \
        REAL(name); \
        int kind = fd < 0 ? NONE : kind_of_fd(fd); \
        if (kind == NONE) return real(at, n, prot, flags, fd, offset); \
        int action = meet(MMAP, kind); \
        if (action == FAIL) { errno = control->error; return MAP_FAILED; } \
        void *done = real(at, n, prot, flags, fd, offset); \
        after(action); \
        return done; \
    }

MAPPER(mmap, off_t)
MAPPER(mmap64, off64_t)

#define UNLINKER(name, params, args) \
    int name params { \
        REAL(name); \
        int kind = kind_of(path); \
        if (kind == NONE) return real args; \
        int action = meet(UNLINK, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        begin(kind); \
        struct stat st = {0}; \
        stat(path, &st); \
        int done = real args; \
        end(UNLINK, kind, -1, st.st_ino, 0, 0, NULL, 0, 0, done < 0); \
        after(action); \
        return done; \
    }

UNLINKER(unlink, (const char *path), (path))
UNLINKER(unlinkat, (int at, const char *path, int flags), (at, path, flags))

/* A rename of one of the files is logged so that the tester notices it: there is none. */
int rename(const char *from, const char *to) {
    REAL(rename);
    int kind = kind_of(from) != NONE ? kind_of(from) : kind_of(to);
    if (kind == NONE) return real(from, to);
    int action = meet(RENAME, kind);
    if (action == FAIL) { errno = control->error; return -1; }
    begin(kind);
    int done = real(from, to);
    end(RENAME, kind, -1, 0, 0, 0, NULL, 0, 0, done < 0);
    after(action);
    return done;
}

#define LOCKER(name) \
    int name(int fd, int command, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, command); \
        void *argument = va_arg(list, void *); \
        va_end(list); \
        int kind = kind_of_fd(fd); \
        if (kind == NONE || (command != F_SETLK && command != F_SETLKW)) \
            return real(fd, command, argument); \
        int action = meet(LOCK, kind); \
        if (action == FAIL) { errno = control->error; return -1; } \
        int done = real(fd, command, argument); \
        after(action); \
        return done; \
    }

LOCKER(fcntl)
LOCKER(fcntl64)

static void jump(struct timespec *t, int64_t ns) {
    int64_t at = t->tv_nsec + ns % 1000000000;
    t->tv_sec += ns / 1000000000 + (at >= 1000000000) - (at < 0);
    t->tv_nsec = (at + 1000000000) % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    REAL(clock_gettime);
    int done = real(clock, t);
    if (!done && control) {
        if (clock == CLOCK_REALTIME) jump(t, control->wall_jump);
        if (clock == CLOCK_MONOTONIC) jump(t, control->monotonic_jump);
    }
    return done;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    static int (*real)(struct timeval *restrict, void *restrict);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int done = real(t, zone);
    if (!done && control) t->tv_sec += control->wall_jump / 1000000000;
    return done;
}

time_t time(time_t *to) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (to) *to = t.tv_sec;
    return t.tv_sec;
}

int usleep(useconds_t microseconds) {
    REAL(usleep);
    if (control && control->hurry) return sched_yield();
    return real(microseconds);
}

int nanosleep(const struct timespec *wanted, struct timespec *left) {
    REAL(nanosleep);
    if (control && control->hurry) return sched_yield();
    return real(wanted, left);
}
