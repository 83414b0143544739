/*
 * A client: sends each of its arguments to a server, in memory that the server already has, and prints what came back.
 *
 *     wigwag serve shout --do upper &
 *     cc client.c $(pkg-config --cflags --libs wigwag) -o client && ./client shout hello 'shared memory'
 */
#include <stdio.h>
#include <string.h>

#include <wigwag.h>

int main(int argc, char **argv)
{
    wigwag_error *error = wigwag_error_new();
    wigwag_client *client;
    wigwag_connect_options options = {0};
    int failed = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: client NAME TEXT...\n");
        return 2;
    }
    options.size = sizeof options;
    options.server_timeout_ns = (int64_t)5 * 1000 * 1000 * 1000; /* it may be about to start */
    if (wigwag_client_connect(argv[1], &options, &client, error) != WIGWAG_OK) {
        fprintf(stderr, "client: %s\n", wigwag_error_text(error));
        return 1;
    }
    for (int at = 2; at < argc && !failed; at++) {
        wigwag_loan *loan;
        wigwag_reply *reply;
        void *data;
        size_t len = strlen(argv[at]);

        failed = wigwag_client_loan(client, len, WIGWAG_FOREVER, &loan, &data, error);
        if (failed)
            break;
        memcpy(data, argv[at], len); /* or build it right there */
        failed = wigwag_loan_call(loan, WIGWAG_FOREVER, &reply, &data, &len, error);
        if (failed)
            break;
        printf("%s -> %.*s\n", argv[at], (int)len, (const char *)data);
        wigwag_reply_release(reply); /* from here on `data` is the next call's */
    }
    if (failed)
        fprintf(stderr, "client: %s%s\n", wigwag_error_text(error),
                wigwag_error_maybe_executed(error) ? " (it may have been executed)" : "");
    wigwag_client_free(client);
    wigwag_error_free(error);
    return failed ? 1 : 0;
}
