/* Stands before the C library (LD_PRELOAD), counts the system calls that concern one folder, and at
   one of them kills the process or lets the call fail. Driven from driver.py through ctypes. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BEFORE, AFTER, HALF }; /* when it dies; HALF: after half of a write */

static char folder[PATH_MAX], names[1 << 16];
static int target, failure, lasting, moment, count;

/* number: which call, from 1, or 0 for none; error: 0 kills; stays: every call after it fails too */
void fault_arm(const char *below, int number, int error, int stays, int when) {
    snprintf(folder, sizeof folder, "%s", below);
    target = number, failure = error, lasting = stays, moment = when, count = 0;
    names[0] = 0;
}

void fault_disarm(void) { folder[0] = 0; }
const char *fault_names(void) { return names; }

static int concerns(const char *path) {
    return folder[0] && path && !strncmp(path, folder, strlen(folder));
}

static int concerns_file(int file) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}

static int concerns_at(int directory, const char *path) {
    return path[0] == '/' || directory == AT_FDCWD ? concerns(path) : concerns_file(directory);
}

static int due(const char *name) {
    count++;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s ", name);
    return target && (count == target || (lasting && failure && count > target));
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

#define CALL(type, name, concerned, real)          \
    if (!(concerned) || !due(#name)) return real;  \
    if (failure) { errno = failure; return -1; }   \
    if (moment == BEFORE) die();                   \
    type result = real;                            \
    die();                                         \
    return result

#define MODE                                       \
    va_list list;                                  \
    va_start(list, flags);                         \
    int mode = va_arg(list, int);                  \
    va_end(list)

int open(const char *path, int flags, ...) {
    MODE;
    CALL(int, open, concerns(path), REAL(int, open, const char *, int, ...)(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    MODE;
    CALL(int, open, concerns(path), REAL(int, open64, const char *, int, ...)(path, flags, mode));
}

int openat(int directory, const char *path, int flags, ...) {
    MODE;
    CALL(int, open, concerns_at(directory, path),
         REAL(int, openat, int, const char *, int, ...)(directory, path, flags, mode));
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE;
    CALL(int, open, concerns_at(directory, path),
         REAL(int, openat64, int, const char *, int, ...)(directory, path, flags, mode));
}

int mkdir(const char *path, mode_t mode) {
    CALL(int, mkdir, concerns(path), REAL(int, mkdir, const char *, mode_t)(path, mode));
}

int rename(const char *from, const char *to) {
    CALL(int, rename, concerns(to), REAL(int, rename, const char *, const char *)(from, to));
}

int unlink(const char *path) {
    CALL(int, unlink, concerns(path), REAL(int, unlink, const char *)(path));
}

int rmdir(const char *path) {
    CALL(int, rmdir, concerns(path), REAL(int, rmdir, const char *)(path));
}

int unlinkat(int directory, const char *path, int flags) {
    CALL(int, unlinkat, concerns_at(directory, path),
         REAL(int, unlinkat, int, const char *, int)(directory, path, flags));
}

int fsync(int file) { CALL(int, fsync, concerns_file(file), REAL(int, fsync, int)(file)); }

ssize_t read(int file, void *data, size_t size) {
    CALL(ssize_t, read, concerns_file(file),
         REAL(ssize_t, read, int, void *, size_t)(file, data, size));
}

ssize_t write(int file, const void *data, size_t size) {
    if (!failure && moment == HALF && count + 1 == target && concerns_file(file)) size /= 2;
    CALL(ssize_t, write, concerns_file(file),
         REAL(ssize_t, write, int, const void *, size_t)(file, data, size));
}

DIR *opendir(const char *path) {
    if (!concerns(path) || !due("opendir")) return REAL(DIR *, opendir, const char *)(path);
    if (!failure) die();
    errno = failure;
    return NULL;
}

int close(int file) { /* a close that fails has closed all the same */
    if (!concerns_file(file) || !due("close")) return REAL(int, close, int)(file);
    if (!failure && moment == BEFORE) die();
    REAL(int, close, int)(file);
    if (!failure) die();
    errno = failure;
    return -1;
}
