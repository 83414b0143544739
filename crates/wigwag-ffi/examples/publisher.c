/*
 * A publisher: waits until somebody listens, then publishes so many frames, each written where all subscribers read it,
 * and ends the broadcast. It never waits for a subscriber that is slow.
 *
 *     cc publisher.c $(pkg-config --cflags --libs wigwag) -o publisher && ./publisher camera 3
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wigwag.h>

enum { WIDTH = 64, HEIGHT = 48 };

struct frame {
    uint64_t number;
    unsigned char pixels[HEIGHT][WIDTH];
};

int main(int argc, char **argv)
{
    wigwag_error *error = wigwag_error_new();
    wigwag_publisher *publisher;
    wigwag_listen_options options = {0};
    int failed;

    if (argc != 3) {
        fprintf(stderr, "usage: publisher NAME FRAMES\n");
        return 2;
    }
    options.size = sizeof options;
    options.history = 8; /* so many frames may a subscriber be behind before it loses one */
    options.capacity = sizeof(struct frame);
    options.contract_name = "frames"; /* what both sides call them, or the subscriber is refused */
    options.contract_version = 1;
    failed = wigwag_publisher_bind(argv[1], &options, &publisher, error);
    if (failed) {
        fprintf(stderr, "publisher: %s\n", wigwag_error_text(error));
        return 1;
    }
    failed = wigwag_publisher_wait_for_subscribers(publisher, 1, WIGWAG_FOREVER, error);
    for (uint64_t number = 1; !failed && number <= strtoull(argv[2], NULL, 10); number++) {
        struct frame *frame;
        void *data;

        failed = wigwag_publisher_loan(publisher, sizeof *frame, WIGWAG_FOREVER, &data, error);
        if (failed)
            break;
        frame = data; /* of what lies there nothing is known: write all of it */
        frame->number = number;
        memset(frame->pixels, (int)number, sizeof frame->pixels);
        failed = wigwag_publisher_commit(publisher, NULL, error);
    }
    if (failed)
        fprintf(stderr, "publisher: %s\n", wigwag_error_text(error));
    wigwag_publisher_free(publisher); /* of which its subscribers are told */
    wigwag_error_free(error);
    return failed ? 1 : 0;
}
