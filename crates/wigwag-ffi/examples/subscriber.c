/*
 * A subscriber: looks at the frames of publisher.c where they were written, until the broadcast ends. It says how many
 * it was too slow for.
 *
 *     cc subscriber.c $(pkg-config --cflags --libs wigwag) -o subscriber && ./subscriber camera
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

#include <wigwag.h>

enum { WIDTH = 64, HEIGHT = 48 };

struct frame {
    uint64_t number;
    unsigned char pixels[HEIGHT][WIDTH];
};

int main(int argc, char **argv)
{
    wigwag_error *error = wigwag_error_new();
    wigwag_subscriber *subscriber;
    wigwag_connect_options options = {0};
    int code;

    if (argc != 2) {
        fprintf(stderr, "usage: subscriber NAME\n");
        return 2;
    }
    options.size = sizeof options;
    options.server_timeout_ns = (int64_t)5 * 1000 * 1000 * 1000; /* it may be about to start */
    options.contract_name = "frames";
    options.contract_version = 1;
    code = wigwag_subscriber_connect(argv[1], &options, &subscriber, error);
    if (code != WIGWAG_OK) {
        fprintf(stderr, "subscriber: %s\n", wigwag_error_text(error));
        return 1;
    }
    for (;;) {
        wigwag_sample *sample;
        const struct frame *frame;
        const void *data;
        size_t len;
        unsigned long sum = 0;

        code = wigwag_subscriber_recv(subscriber, WIGWAG_FOREVER, &sample, &data, &len, error);
        if (code != WIGWAG_OK)
            break;
        if (wigwag_sample_lost_before(sample) > 0)
            printf("%" PRIu64 " frames were lost\n", wigwag_sample_lost_before(sample));
        if (len == sizeof *frame) {
            frame = data;
            for (size_t at = 0; at < sizeof frame->pixels; at++)
                sum += frame->pixels[at / WIDTH][at % WIDTH];
            printf("frame %" PRIu64 ": %lu\n", frame->number, sum);
        }
        wigwag_sample_release(sample); /* from here on its memory is the publisher's again */
    }
    if (code == WIGWAG_ERR_ENDED)
        puts("the end");
    else /* WIGWAG_ERR_PEER_DIED: all that it had published was read */
        fprintf(stderr, "subscriber: %s\n", wigwag_error_text(error));
    wigwag_subscriber_free(subscriber);
    wigwag_error_free(error);
    return code == WIGWAG_ERR_ENDED ? 0 : 1;
}
