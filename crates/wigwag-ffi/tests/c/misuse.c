/*
 * Mistakes that the library cannot notice, or not for sure: `misuse DIRECTORY HOW`. Built with AddressSanitizer, each
 * ends with a report. What the program prints otherwise is what happened to come of it.
 */
#define _GNU_SOURCE

#include "check.h"

int main(int argc, char **argv)
{
    char room[512];
    if (argc != 3) {
        fprintf(stderr, "usage: misuse DIRECTORY HOW\n");
        return 2;
    }
    const char *how = argv[2], *name = path_of(room, sizeof room, argv[1], "misuse");
    wigwag_error *error = wigwag_error_new();
    wigwag_server *server;
    wigwag_client *client;
    wigwag_request *request;
    wigwag_loan *loan;
    wigwag_pending *pending;
    wigwag_publisher *publisher;
    wigwag_subscriber *subscriber;
    wigwag_sample *sample;
    void *data;
    int code = 0;

    OK(wigwag_server_bind(name, unhurried(), &server, error));
    OK(wigwag_client_connect(name, NULL, &client, error));
    OK(wigwag_client_loan(client, 8, 0, &loan, &data, error));
    if (strcmp(how, "nothing") == 0) {
        OK(wigwag_loan_release(loan));
    } else if (strcmp(how, "client-freed-twice") == 0) {
        OK(wigwag_loan_release(loan));
        OK(wigwag_client_free(client));
        code = wigwag_client_free(client);
        client = NULL;
    } else if (strcmp(how, "loan-after-client") == 0) {
        OK(wigwag_loan_release(loan));
        OK(wigwag_client_free(client));
        code = wigwag_loan_release(loan);
        client = NULL;
    } else if (strcmp(how, "request-answered-twice") == 0) {
        OK(wigwag_loan_send(loan, &pending, error));
        OK(wigwag_server_recv(server, LIMIT_NS, &request, error));
        OK(wigwag_request_reply(request, error));
        code = wigwag_request_reply(request, error);
        OK(wigwag_pending_abandon(pending));
    } else if (strncmp(how, "sample-", 7) == 0) {
        OK(wigwag_loan_release(loan));
        OK(wigwag_publisher_bind(path_of(room, sizeof room, argv[1], "sample"), unhurried(), &publisher, error));
        OK(wigwag_subscriber_connect(room, NULL, &subscriber, error));
        OK(wigwag_publisher_send(publisher, "short", 5, 0, NULL, error));
        const void *bytes;
        OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, &bytes, NULL, error));
        OK(wigwag_sample_release(sample));
        if (strcmp(how, "sample-released-twice") == 0)
            code = wigwag_sample_release(sample);
        else /* a short one is the handle's own: a sanitizer sees who reads it late */
            code = *(const volatile char *)bytes;
        OK(wigwag_subscriber_free(subscriber));
        OK(wigwag_publisher_free(publisher));
    } else if (strcmp(how, "publisher-after-free") == 0) {
        OK(wigwag_loan_release(loan));
        OK(wigwag_publisher_bind(path_of(room, sizeof room, argv[1], "late"), unhurried(), &publisher, error));
        OK(wigwag_publisher_loan(publisher, 5, 0, &data, error));
        OK(wigwag_publisher_free(publisher));
        code = wigwag_publisher_commit(publisher, NULL, error);
    } else if (strcmp(how, "error-after-free") == 0) {
        OK(wigwag_loan_release(loan));
        wigwag_error *other = wigwag_error_new();
        OK(wigwag_error_free(other));
        code = wigwag_error_code(other);
    } else if (strcmp(how, "no-handle") == 0) {
        OK(wigwag_loan_release(loan));
        char *nothing = malloc(4); /* shorter than any handle's mark */
        code = wigwag_client_free((wigwag_client *)(void *)nothing);
        free(nothing);
    } else if (strcmp(how, "options-too-short") == 0) {
        OK(wigwag_loan_release(loan));
        size_t *options = malloc(sizeof *options); /* and says that it is a whole one */
        *options = sizeof(wigwag_connect_options);
        wigwag_client *other;
        code = wigwag_client_connect(name, (const wigwag_connect_options *)(void *)options, &other, error);
        free(options);
    } else {
        fprintf(stderr, "there is no %s\n", how);
        return 2;
    }
    printf("%s: %s\n", how, wigwag_code_name(code));
    wigwag_client_free(client);
    wigwag_server_free(server);
    wigwag_error_free(error);
    return 0;
}
