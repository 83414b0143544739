/*
 * One call after the other through the C interface, for `wigwag bench --goal C1`.
 *
 *     closed_loop NAME SIZE WAIT PROCESSOR in-place|copied
 *
 * Says "ready" once it is connected. For each line with a number of nanoseconds on its standard input it makes calls for
 * so long, in batches; each call writes all bytes, and reads and checks all of the reply. It answers with the median of
 * the batches, in nanoseconds for one call. It ends with its input.
 */
#define _GNU_SOURCE

#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <wigwag.h>

/* Calls between two looks at the clock, and before the first one that counts. */
enum { BATCH = 200, WARM_UP = 2000, BATCHES_MAX = 1 << 16 };

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *doing, const wigwag_error *error)
{
    printf("failed: %s: %s\n", doing, wigwag_error_text(error));
    exit(1);
}

static int by_size(const void *left, const void *right)
{
    double l = *(const double *)left, r = *(const double *)right;
    return (l > r) - (l < r);
}

/* The work of `bench/harness/src/work.rs`, likewise never inlined: the same for both languages. */
static __attribute__((noinline)) void fill(unsigned char *bytes, size_t len, uint64_t pattern)
{
    unsigned char block[16];
    size_t at = 0;

    memcpy(block, &pattern, 8);
    memcpy(block + 8, &pattern, 8);
    for (; at + 16 <= len; at += 16)
        memcpy(bytes + at, block, 16);
    for (size_t byte = 0; at < len; at++, byte++)
        bytes[at] = (unsigned char)(pattern >> (8 * (byte % 8)));
}

static __attribute__((noinline)) uint64_t sum(const unsigned char *bytes, size_t len)
{
    uint64_t low = 0, high = 0, word;
    size_t at = 0;
    for (; at + 16 <= len; at += 16) {
        memcpy(&word, bytes + at, 8);
        low += word;
        memcpy(&word, bytes + at + 8, 8);
        high += word;
    }
    for (; at < len; at++)
        low += bytes[at];
    return low + high;
}

/* The sum of the reply: the server adds one to each byte. */
static uint64_t expected(size_t len, uint64_t pattern)
{
    const uint64_t low = 0x7f7f7f7f7f7f7f7f, ones = 0x0101010101010101;
    uint64_t changed = ((pattern & low) + ones) ^ (pattern & ~low);
    uint64_t total = (uint64_t)(len / 16 * 2) * changed;
    for (size_t at = 0; at < len % 16; at++)
        total += changed >> (8 * (at % 8)) & 0xff;
    return total;
}

static void call(wigwag_client *client, size_t size, uint64_t number, wigwag_error *error)
{
    wigwag_loan *loan;
    wigwag_reply *reply;
    void *data;
    size_t len;
    uint64_t pattern = (number * 0x9e3779b97f4a7c15) ^ 0x0123456789abcdef;

    if (wigwag_client_loan(client, size, WIGWAG_FOREVER, &loan, &data, error) != WIGWAG_OK)
        fail("borrow", error);
    fill(data, size, pattern);
    if (wigwag_loan_call(loan, WIGWAG_FOREVER, &reply, &data, &len, error) != WIGWAG_OK)
        fail("call", error);
    if (len != size || sum(data, len) != expected(size, pattern)) {
        printf("failed: a reply is wrong\n");
        exit(1);
    }
    wigwag_reply_release(reply);
}

/* The same through bytes of this program's own. */
static void call_copied(wigwag_client *client, size_t size, uint64_t number, wigwag_error *error)
{
    static _Alignas(64) unsigned char bytes[1 << 16];
    size_t len;
    uint64_t pattern = (number * 0x9e3779b97f4a7c15) ^ 0x0123456789abcdef;

    fill(bytes, size, pattern);
    if (wigwag_client_call_copied(client, bytes, size, WIGWAG_FOREVER, bytes, sizeof bytes, &len, error) != WIGWAG_OK)
        fail("call", error);
    if (len != size || sum(bytes, len) != expected(size, pattern)) {
        printf("failed: a reply is wrong\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static double batches[BATCHES_MAX];
    char line[64];
    uint64_t number = 0;
    cpu_set_t processors;

    if (argc != 6) {
        fprintf(stderr, "usage: closed_loop NAME SIZE WAIT PROCESSOR in-place|copied\n");
        return 2;
    }
    void (*once)(wigwag_client *, size_t, uint64_t, wigwag_error *) =
        strcmp(argv[5], "copied") == 0 ? call_copied : call;
    size_t size = strtoul(argv[2], NULL, 10);
    CPU_ZERO(&processors);
    CPU_SET((size_t)strtoul(argv[4], NULL, 10), &processors);
    if (sched_setaffinity(0, sizeof processors, &processors) != 0) {
        printf("failed: this process cannot be put on processor %s\n", argv[4]);
        return 1;
    }
    wigwag_connect_options options = {0};
    options.size = sizeof options;
    options.slots = 16;
    options.capacity = 64; /* as the client in Rust */
    options.wait = strcmp(argv[3], "spin") == 0 ? WIGWAG_WAIT_SPIN : WIGWAG_WAIT_ADAPTIVE;
    wigwag_error *error = wigwag_error_new();
    wigwag_client *client;
    if (wigwag_client_connect(argv[1], &options, &client, error) != WIGWAG_OK)
        fail("connect", error);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t until = now_ns() + strtoll(line, NULL, 10);
        size_t count = 0;
        for (int i = 0; i < WARM_UP; i++)
            once(client, size, number++, error);
        for (int64_t begin = now_ns(); count == 0 || (begin < until && count < BATCHES_MAX);) {
            for (int i = 0; i < BATCH; i++)
                once(client, size, number++, error);
            int64_t end = now_ns();
            batches[count++] = (double)(end - begin) / BATCH;
            begin = end;
        }
        qsort(batches, count, sizeof *batches, by_size);
        printf("%.2f\n", batches[count / 2]);
        fflush(stdout);
    }
    wigwag_client_free(client);
    wigwag_error_free(error);
    return 0;
}
