/*
 * A server: reverses what clients send, where it lies, until a signal ends it.
 *
 *     cc server.c $(pkg-config --cflags --libs wigwag) -lpthread -o server && ./server backwards &
 *     wigwag call backwards 'shared memory'
 */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include <wigwag.h>

static int reverse(wigwag_request *request, void *user)
{
    unsigned char *bytes;
    void *data;
    size_t len;

    (void)user;
    if (wigwag_request_data(request, &data, &len, NULL) != WIGWAG_OK)
        return -1;
    if (len == 0) {
        wigwag_request_fail(request, "there is nothing to be reversed", NULL);
        return -1;
    }
    bytes = data;
    for (size_t at = 0; at < len / 2; at++) {
        unsigned char byte = bytes[at];
        bytes[at] = bytes[len - 1 - at];
        bytes[len - 1 - at] = byte;
    }
    return 0; /* what lies there now is the reply */
}

/* Signals come to a thread: the functions of the library are not for handlers. */
static void *wait_for_signal(void *stop)
{
    sigset_t signals;
    int signal;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &signal);
    wigwag_stop_shutdown(stop);
    return NULL;
}

int main(int argc, char **argv)
{
    wigwag_error *error = wigwag_error_new();
    wigwag_server *server;
    wigwag_stop *stop;
    wigwag_server_stats stats = {0};
    pthread_t thread;
    sigset_t signals;

    if (argc != 2) {
        fprintf(stderr, "usage: server NAME\n");
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (wigwag_server_bind(argv[1], NULL, &server, error) != WIGWAG_OK ||
        wigwag_server_stop(server, &stop, error) != WIGWAG_OK) {
        fprintf(stderr, "server: %s\n", wigwag_error_text(error));
        return 1;
    }
    pthread_create(&thread, NULL, wait_for_signal, stop);
    printf("serving\n");
    fflush(stdout);
    if (wigwag_server_serve(server, reverse, NULL, error) != WIGWAG_OK)
        fprintf(stderr, "server: %s\n", wigwag_error_text(error));
    pthread_join(thread, NULL);
    stats.size = sizeof stats;
    wigwag_server_statistics(server, &stats, error);
    printf("%llu calls, %llu failed\n", (unsigned long long)stats.calls, (unsigned long long)stats.failed);
    wigwag_stop_free(stop);
    wigwag_server_free(server);
    wigwag_error_free(error);
    return 0;
}
