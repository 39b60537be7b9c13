// SPDX-License-Identifier: GPL-2.0-or-later
/* load: many clients of a line protocol on Unix sockets; how fast they are answered, and how well.

   load [options] SOCKET...

   Each client writes a request line, reads the reply line, and compares all of it with what must
   come. Prints one line of JSON. Usage errors exit with 2; whatever the replies are, it exits 0.

     --clients N    so many at once                                     (16)
     --seconds S    no new request after this time                      (1)
     --requests N   no new request after this number                    (no limit)
     --mode M       conn: a connection for each request; keep: kept open (conn)
     --bytes N      length of a request line, its newline included      (64)
     --prefix P     what a request begins with                          ("echo:")
     --reply N      ask for a reply of N bytes (`big:N:`), not for the request itself
     --rate R       begin R requests a second, whether others are answered or not
     --warm N       first let so many requests be answered that do not count, then print `warm`
     --timeout S    give up so long after the last request was begun    (30)

   What an echo owes us is the request itself, or, for a request that begins with `encrypt:`, all
   that follows. Several sockets are used in turn: by requests (conn) or by clients (keep).

   With --rate a request's time counts from the moment at which it was due, not from when a client
   was free for it: a server that stands still cannot hide the requests that would have come. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256                  /* events taken from the kernel at once */
#define CHUNK (256 * 1024)         /* bytes asked for by a read */
#define RETRY 0.001                /* seconds until a socket with a full backlog is tried again */
#define ID_DIGITS 12               /* so that the header's length never changes */

static const char LOST[] = "con_lost\n";
static const char SEALED[] = "encrypt:";

enum state { FREE, CONNECTING, ASKING };

struct client {
    int fd;               /* -1: not connected */
    enum state state;
    double since;         /* when its request began, or was due */
    char *request;
    size_t sent, received;
    bool writing;         /* epoll reports when it is writable */
    bool same, lost;      /* the reply, as far as it came, is the right one; is con_lost */
};

static struct {
    int clients;
    double seconds, rate, timeout;
    long requests, warm;
    bool keep;
    size_t bytes, reply;
    char prefix[256];
    char **paths;
    int path_count;
} want = {.clients = 16, .seconds = 1, .timeout = 30, .bytes = 64, .prefix = "echo:"};

static struct {
    long issued, answered, errors, lost, mismatches, refused;
    float *latencies;     /* microseconds */
    size_t room;
    double first, last;   /* when the counting began, when the last answer came */
    bool warm;            /* whether what is answered counts */
} count;

static int events;        /* the epoll descriptor */
static struct client *clients;
static struct client **spare;       /* a stack of those that are FREE */
static int spare_count, connecting;
static char *big_reply;   /* what --reply must bring; NULL: an echo */
static size_t skip;       /* bytes of the request that an echo leaves out */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("load: no memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* -- a client ---------------------------------------------------------------------------------- */

static void watch(struct client *c, int how, bool writing)
{
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(events, how, c->fd, &e);
    c->writing = writing;
}

static void disconnect(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* Start counting. The caller may measure the server from this line on. */
static void begin_to_count(void)
{
    puts("warm");
    fflush(stdout);
    count.warm = true;
    count.answered = count.errors = count.lost = count.mismatches = count.refused = 0;
    count.first = now();
}

/* End the request under way. `answered`: a whole reply line came, whatever it says. */
static void finish(struct client *c, bool answered)
{
    double at = now();
    if (!answered) {
        count.errors++;
    } else {
        if (c->lost)
            count.lost++;
        else if (!c->same)
            count.mismatches++;
        if ((size_t)count.answered == count.room) {
            count.room = count.room ? 2 * count.room : 65536;
            count.latencies = need(realloc(count.latencies, count.room * sizeof(float)));
        }
        count.latencies[count.answered++] = (at - c->since) * 1e6;
        count.last = at;
        if (!count.warm && count.answered == want.warm)
            begin_to_count();
    }
    if (!answered || !want.keep)
        disconnect(c);
    c->state = FREE;
    spare[spare_count++] = c;
}

static void write_request(struct client *c)
{
    while (c->sent < want.bytes) {
        ssize_t n = send(c->fd, c->request + c->sent, want.bytes - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!c->writing)
                watch(c, EPOLL_CTL_MOD, true);
            return;
        }
        if (n < 0)
            return; /* the read that follows returns the error */
        c->sent += n;
    }
    if (c->writing)
        watch(c, EPOLL_CTL_MOD, false);
}

/* Compare more of the reply with the two things that it may be. */
static void compare(struct client *c, const char *bytes, size_t n)
{
    const char *expected = big_reply ? big_reply : c->request + skip;
    size_t length = big_reply ? want.reply + 1 : want.bytes - skip;
    size_t end = c->received + n;
    if (end > length || (c->same && memcmp(bytes, expected + c->received, n) != 0))
        c->same = false;
    if (end > sizeof LOST - 1 || (c->lost && memcmp(bytes, LOST + c->received, n) != 0))
        c->lost = false;
    c->received = end;
}

static void read_reply(struct client *c)
{
    static char bytes[CHUNK];
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        finish(c, false);
        return;
    }
    compare(c, bytes, n);
    if (bytes[n - 1] == '\n') {
        if (c->sent < want.bytes)
            c->same = false; /* answered before it was asked */
        finish(c, true);
    }
}

/* Connect to one of the sockets, and ask. A full backlog: it is tried again a little later. */
static void connect_and_ask(struct client *c, long which)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, want.paths[which % want.path_count], sizeof address.sun_path - 1);
    if (c->fd < 0)
        c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        if (c->fd >= 0 && errno == EAGAIN) {
            count.refused++;
            connecting += c->state != CONNECTING;
            c->state = CONNECTING;
            return;
        }
        connecting -= c->state == CONNECTING;
        finish(c, false);
        return;
    }
    connecting -= c->state == CONNECTING;
    c->state = ASKING;
    watch(c, EPOLL_CTL_ADD, false);
    write_request(c);
}

static void begin(struct client *c, double since)
{
    char *id = c->request + strlen(want.prefix);
    long number = count.issued++;
    for (int digit = ID_DIGITS - 1; digit >= 0; digit--, number /= 10)
        id[digit] = '0' + number % 10;
    c->since = since;
    c->sent = c->received = 0;
    c->same = c->lost = true;
    c->state = ASKING;
    if (c->fd < 0)
        connect_and_ask(c, want.keep ? c - clients : count.issued);
    else
        write_request(c);
}

/* -- the run ----------------------------------------------------------------------------------- */

/* Begin all that is due; return the seconds until something is, INFINITY: only an answer helps. */
static double begin_what_is_due(double start, bool *over)
{
    double time = now(), due = time, patience = count.warm ? want.seconds : want.timeout;
    long enough = want.requests ? want.warm + want.requests : LONG_MAX;
    if (time >= count.first + patience || count.issued >= enough)
        *over = true;
    /* Each client at most once a turn: one that fails at once must not keep us here. */
    for (int n = spare_count; n > 0 && !*over; n--) {
        if (want.rate > 0 && (due = start + count.issued / want.rate) > time)
            return due - time;
        begin(spare[--spare_count], due);
        *over = count.issued >= enough;
    }
    if (*over)
        return INFINITY;
    return spare_count ? RETRY : INFINITY;
}

static void retry_connecting(void)
{
    for (int i = 0; i < want.clients && connecting; i++)
        if (clients[i].state == CONNECTING)
            connect_and_ask(&clients[i], i);
}

static double run(void)
{
    struct epoll_event ready[BATCH];
    double start = now(), ended = INFINITY;
    bool over = false;
    count.first = start;
    if (want.warm == 0)
        begin_to_count();
    for (;;) {
        double wait = begin_what_is_due(start, &over);
        if (over && spare_count == want.clients)
            break;
        if (over && ended == INFINITY)
            ended = now();
        if (over && now() > ended + want.timeout)
            break;
        if (connecting)
            wait = fmin(wait, RETRY);
        wait = fmin(wait, over ? 0.1 : fmax(count.first + want.seconds - now(), 0.001));
        struct timespec limit = {.tv_sec = (time_t)wait, .tv_nsec = fmod(wait, 1) * 1e9};
        int n = epoll_pwait2(events, ready, BATCH, &limit, NULL);
        for (int i = 0; i < n; i++) {
            struct client *c = ready[i].data.ptr;
            if (c->state == FREE) { /* a kept connection that the other side has closed */
                disconnect(c);
                continue;
            }
            if (ready[i].events & EPOLLOUT)
                write_request(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_reply(c);
        }
        if (connecting)
            retry_connecting();
    }
    count.errors += want.clients - spare_count; /* those that were never answered */
    return (count.answered ? count.last : now()) - count.first;
}

/* -- before and after -------------------------------------------------------------------------- */

static void usage(const char *problem)
{
    fprintf(stderr, "load: %s; the top of load.c explains the options\n", problem);
    exit(2);
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"clients", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"requests", 1, 0, 'n'},
        {"mode", 1, 0, 'm'},    {"bytes", 1, 0, 'b'},   {"prefix", 1, 0, 'p'},
        {"reply", 1, 0, 'y'},   {"rate", 1, 0, 'r'},    {"timeout", 1, 0, 't'},
        {"warm", 1, 0, 'w'},
        {0, 0, 0, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'c': want.clients = atoi(optarg); break;
        case 's': want.seconds = atof(optarg); break;
        case 'n': want.requests = atol(optarg); break;
        case 'm': want.keep = strcmp(optarg, "keep") == 0; break;
        case 'b': want.bytes = strtoul(optarg, NULL, 10); break;
        case 'p': snprintf(want.prefix, sizeof want.prefix, "%s", optarg); break;
        case 'y': want.reply = strtoul(optarg, NULL, 10); break;
        case 'r': want.rate = atof(optarg); break;
        case 'w': want.warm = atol(optarg); break;
        case 't': want.timeout = atof(optarg); break;
        default: usage("an unknown option");
        }
    }
    want.paths = argv + optind;
    want.path_count = argc - optind;
    if (want.reply)
        snprintf(want.prefix, sizeof want.prefix, "big:%zu:", want.reply);
    if (want.path_count < 1 || want.clients < 1 || want.seconds <= 0)
        usage("at least one socket, one client and some time");
    if (want.bytes < strlen(want.prefix) + ID_DIGITS + 2)
        usage("--bytes has no room for the prefix and a number");
}

static void prepare(void)
{
    size_t header = strlen(want.prefix) + ID_DIGITS;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1UL); /* a due request must not be 50 us late */
    prctl(PR_SET_PDEATHSIG, SIGKILL);

    events = epoll_create1(EPOLL_CLOEXEC);
    clients = need(calloc(want.clients, sizeof *clients));
    spare = need(calloc(want.clients, sizeof *spare));
    for (int i = want.clients - 1; i >= 0; i--) {
        struct client *c = &clients[i];
        c->fd = -1;
        c->request = need(malloc(want.bytes));
        memcpy(c->request, want.prefix, strlen(want.prefix));
        c->request[header] = ':';
        for (size_t at = header + 1; at < want.bytes; at++)
            c->request[at] = 'a' + (at + i) % 26; /* not the next client's */
        c->request[want.bytes - 1] = '\n';
        spare[spare_count++] = c;
    }
    if (strncmp(want.prefix, SEALED, sizeof SEALED - 1) == 0)
        skip = sizeof SEALED - 1;
    if (want.reply) {
        big_reply = need(malloc(want.reply + 1));
        memset(big_reply, 'z', want.reply);
        big_reply[want.reply] = '\n';
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double share)
{
    return count.answered ? count.latencies[(long)(share * (count.answered - 1))] : 0;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    prepare();
    double seconds = run();
    qsort(count.latencies, count.answered, sizeof(float), by_size);
    printf("{\"answered\": %ld, \"seconds\": %.4f, \"rate\": %.1f, ", count.answered, seconds,
           count.answered / seconds);
    printf("\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f, ",
           quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), quantile(1));
    printf("\"errors\": %ld, \"con_lost\": %ld, \"mismatches\": %ld, \"backlog_full\": %ld}\n",
           count.errors, count.lost, count.mismatches, count.refused);
    return 0;
}
