/*
 * An event loop by epoll: a server, three clients with several calls under way each, and a timer, in one thread. Nothing
 * in it waits but epoll_wait().
 *
 *     cc loop.c $(pkg-config --cflags --libs wigwag) -o loop && ./loop squares
 */
#define _GNU_SOURCE

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <wigwag.h>

enum { CLIENTS = 3, CALLS = 20, UNDER_WAY = 4 };

struct session {
    wigwag_client *client;
    uint64_t next, answered, sum;
};

static wigwag_error *error;

static void check(int code, const char *doing)
{
    if (code >= 0)
        return;
    fprintf(stderr, "loop: %s: %s\n", doing, wigwag_error_text(error));
    exit(1);
}

static void watch(int loop, int fd, void *what)
{
    struct epoll_event event = {0};
    check(fd, "get a descriptor");
    event.events = EPOLLIN;
    event.data.ptr = what;
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

/* Squares the numbers of all requests that there are. */
static void serve(wigwag_server *server)
{
    for (;;) {
        wigwag_request *request;
        void *data;
        size_t len;
        uint64_t number;

        check(wigwag_server_process(server, &request, error), "serve");
        if (request == NULL)
            return; /* from now on the descriptor tells when there is one */
        check(wigwag_request_data(request, &data, &len, error), "look at a request");
        memcpy(&number, data, sizeof number);
        number *= number;
        memcpy(data, &number, sizeof number);
        check(wigwag_request_reply(request, error), "reply");
    }
}

/* Asks for the next square, if there is one left. */
static void ask(struct session *session)
{
    wigwag_loan *loan;
    wigwag_pending *pending;
    void *data;

    if (session->next == CALLS)
        return;
    session->next++;
    check(wigwag_client_loan(session->client, sizeof session->next, 0, &loan, &data, error), "borrow");
    memcpy(data, &session->next, sizeof session->next);
    check(wigwag_loan_send(loan, &pending, error), "send");
}

/* Takes all replies that there are, and asks for as many more. */
static void listen_to(struct session *session)
{
    for (;;) {
        wigwag_pending *ready;
        wigwag_reply *reply;
        void *data;
        uint64_t square;

        check(wigwag_client_process(session->client, &ready, error), "listen");
        if (ready == NULL)
            return;
        check(wigwag_pending_wait(ready, 0, &reply, &data, NULL, error), "take a reply");
        memcpy(&square, data, sizeof square);
        wigwag_reply_release(reply);
        session->sum += square;
        session->answered++;
        ask(session);
    }
}

int main(int argc, char **argv)
{
    wigwag_server *server;
    struct session sessions[CLIENTS] = {{0}};
    struct itimerspec limit = {{0}, {10, 0}};
    int loop = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    uint64_t answered = 0;

    if (argc != 2) {
        fprintf(stderr, "usage: loop NAME\n");
        return 2;
    }
    error = wigwag_error_new();
    timerfd_settime(timer, 0, &limit, NULL);
    watch(loop, timer, NULL);
    check(wigwag_server_bind(argv[1], NULL, &server, error), "bind");
    watch(loop, wigwag_server_fd(server, error), &server);
    for (int at = 0; at < CLIENTS; at++) {
        check(wigwag_client_connect(argv[1], NULL, &sessions[at].client, error), "connect");
        watch(loop, wigwag_client_fd(sessions[at].client, error), &sessions[at]);
        for (int call = 0; call < UNDER_WAY; call++)
            ask(&sessions[at]);
        listen_to(&sessions[at]); /* once before the first wait, which arms the descriptor */
    }
    serve(server);
    while (answered < CLIENTS * CALLS) {
        struct epoll_event event;
        if (epoll_wait(loop, &event, 1, -1) != 1)
            continue;
        if (event.data.ptr == NULL) {
            fprintf(stderr, "loop: that took too long\n");
            return 1;
        }
        if (event.data.ptr == &server)
            serve(server);
        else
            listen_to(event.data.ptr);
        answered = 0;
        for (int at = 0; at < CLIENTS; at++)
            answered += sessions[at].answered;
    }
    for (int at = 0; at < CLIENTS; at++) {
        printf("client %d: %d squares, sum %llu\n", at, CALLS, (unsigned long long)sessions[at].sum);
        wigwag_client_free(sessions[at].client);
    }
    wigwag_server_free(server);
    wigwag_error_free(error);
    close(timer);
    close(loop);
    return 0;
}
