/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <wigwag.h>

/* Ends the program with what was expected, and what the library has said last. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s: %s)\n", __FILE__, __LINE__, #condition,                \
                    wigwag_code_name(wigwag_error_code(error)), wigwag_error_text(error));                             \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define OK(call) CHECK((call) == WIGWAG_OK)
#define IS(code, call) CHECK((call) == (code))

/* So long may anything take before it hangs. */
#define LIMIT_NS ((int64_t)30 * 1000 * 1000 * 1000)
#define LIMIT_MS 30000

/* All defaults for a bind, but that whoever connects may take long: the machine may be busy with something else. */
static inline const wigwag_listen_options *unhurried(void)
{
    static wigwag_listen_options options;
    options.size = sizeof options;
    options.handshake_timeout_ns = LIMIT_NS;
    return &options;
}

static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int is_readable(int fd, int within_ms)
{
    struct pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, within_ms) == 1;
}

static inline void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* A path in the directory that the test has made for this program. */
static inline const char *path_of(char *room, size_t size, const char *directory, const char *name)
{
    snprintf(room, size, "%s/%s", directory, name);
    return room;
}

#endif
