// SPDX-License-Identifier: GPL-2.0-or-later
/* lond: the other end of a benchmark: shakes hands as a lond does, then answers as fast as it can.

   lond [--port N] [--delay MICROSECONDS] [--raw]

   Prints `ready PORT`. It is whatever host is asked for, by way of the legacy handshake (init,
   challenge, ekey) or the modern one (version and sethost, too). Requests, `sethost:ID:` before
   them or not:

     big:N:...        N bytes of z
     anything else    itself. So an `enc:` line comes back as it was sent, and the
                      client opens it with its own key: no cipher is needed here.

   --delay: an answer waits so long; other answers do not wait for it.
   --raw: no handshake; requests are answered from the first line on (for relays that know none).

   A connection is read one line at a time: the next one waits for the answer to this one. */

#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256      /* events taken from the kernel at once */
#define ROOM 16384     /* bytes that are free before each read, at least */

static const char CHALLENGE[] = "12345678901234\n";
static const char VERSION[] = "version:$Revision: 1.500 $\n";
static const char BUILD_KEY[] = "48123ABCDEF0987654321AB55512345\n";

enum stage { NEW, CHALLENGED, READY };

struct link {
    int fd;                     /* -1: closed, and only waits to leave the queue */
    enum stage stage;
    char *input;
    size_t used, room;          /* bytes in `input`, and how many fit */
    size_t searched;            /* so many of them hold no newline */
    size_t line;                /* length of the line that is being answered; 0: none is */
    const char *text;           /* the answer, if it is not a part of `input` */
    char *owned;                /* `text`, if it is to be freed */
    size_t at, left;            /* where the rest of the answer begins, and its length */
    bool writing;               /* epoll reports when it is writable */
    bool queued;                /* the answer waits for its time */
    double due;
    struct link *next;          /* in the queue */
};

static int events;
static double delay;            /* seconds */
static bool raw;

/* Answers that wait. All wait equally long, so the first one is due first. */
static struct link *first, **last = &first;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("lond: no memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* -- what to answer ---------------------------------------------------------------------------- */

static void say(struct link *c, const char *text, size_t length)
{
    c->text = text;
    c->at = 0;
    c->left = length;
}

#define SAY(link, literal) say(link, literal, sizeof(literal) - 1)

static bool begins(const char *line, size_t length, const char *with)
{
    size_t n = strlen(with);
    return length >= n && memcmp(line, with, n) == 0;
}

static void answer_big(struct link *c, const char *number)
{
    size_t length = strtoul(number, NULL, 10);
    c->owned = need(malloc(length + 1));
    memset(c->owned, 'z', length);
    c->owned[length] = '\n';
    say(c, c->owned, length + 1);
}

/* Answer the line; return whether it was a request, and no part of the handshake. */
static bool answer(struct link *c, const char *line, size_t length)
{
    if (c->stage == NEW) {
        c->stage = CHALLENGED;
        SAY(c, CHALLENGE);
        return false;
    }
    if (c->stage == CHALLENGED) {
        c->stage = READY;
        SAY(c, "ok\n");
        return false;
    }
    size_t at = 0;
    if (begins(line, length, "sethost:")) {
        const char *colon = memchr(line + 8, ':', length - 8);
        if (colon == NULL) {
            SAY(c, "ok\n");
            return false;
        }
        at = colon + 1 - line;
    }
    const char *request = line + at;
    if (begins(request, length - at, "big:")) {
        answer_big(c, request + 4);
    } else if (begins(request, length - at, "ekey\n")) {
        SAY(c, BUILD_KEY);
        return false;
    } else if (begins(request, length - at, "version\n")) {
        SAY(c, VERSION);
        return false;
    } else {
        c->text = NULL; /* a part of the input, which may move: `at` counts from its start */
        c->at = at;
        c->left = length - at;
    }
    return true;
}

/* -- one connection ---------------------------------------------------------------------------- */

static void watch(struct link *c, int how, bool writing)
{
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(events, how, c->fd, &e);
    c->writing = writing;
}

static void end(struct link *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    if (c->queued)
        return; /* the queue still knows it */
    free(c->owned);
    free(c->input);
    free(c);
}

/* Write what the kernel takes of the answer; return whether all is out. */
static bool flush(struct link *c)
{
    while (c->left > 0) {
        ssize_t n = send(c->fd, (c->text ? c->text : c->input) + c->at, c->left, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN && !c->writing)
                watch(c, EPOLL_CTL_MOD, true);
            return false; /* another error: the next read finds it */
        }
        c->at += n;
        c->left -= n;
    }
    if (c->writing)
        watch(c, EPOLL_CTL_MOD, false);
    return true;
}

/* Take the answered line out of the input. */
static void forget_line(struct link *c)
{
    free(c->owned);
    c->owned = NULL;
    c->used -= c->line;
    memmove(c->input, c->input + c->line, c->used);
    c->line = 0;
    c->searched = 0;
}

/* Go on as far as it goes: write, take the next line, answer it. */
static void proceed(struct link *c)
{
    for (;;) {
        if (c->line > 0) {
            if (c->queued || !flush(c))
                return;
            forget_line(c);
        }
        char *found = memchr(c->input + c->searched, '\n', c->used - c->searched);
        if (found == NULL) {
            c->searched = c->used;
            return;
        }
        c->line = found + 1 - c->input;
        if (answer(c, c->input, c->line) && delay > 0) {
            c->queued = true;
            c->due = now() + delay;
            c->next = NULL;
            *last = c;
            last = &c->next;
        }
    }
}

static void receive(struct link *c)
{
    if (c->room - c->used < ROOM) {
        c->room = 2 * c->room + ROOM;
        c->input = need(realloc(c->input, c->room));
    }
    ssize_t n = read(c->fd, c->input + c->used, c->room - c->used);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        end(c);
        return;
    }
    c->used += n;
    proceed(c);
}

/* -- all of them ------------------------------------------------------------------------------- */

static void accept_all(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct link *c = need(calloc(1, sizeof *c));
        c->fd = fd;
        c->stage = raw ? READY : NEW;
        watch(c, EPOLL_CTL_ADD, false);
    }
}

/* Send the answers whose time has come; return the seconds until the next one's, or -1. */
static double send_what_is_due(void)
{
    double time = first ? now() : 0;
    while (first && first->due <= time) {
        struct link *c = first;
        first = c->next;
        if (first == NULL)
            last = &first;
        c->queued = false;
        if (c->fd < 0)
            end(c);
        else
            proceed(c);
    }
    return first ? first->due - time : -1;
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 4096)) {
        perror("lond");
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"delay", 1, 0, 'd'}, {"raw", 0, 0, 'r'}, {0, 0, 0, 0},
    };
    int option, port = 0;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'd': delay = atof(optarg) * 1e-6; break;
        case 'r': raw = true; break;
        default: return 2;
        }
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1UL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);

    events = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(port);
    struct epoll_event ready[BATCH], e = {.events = EPOLLIN};
    epoll_ctl(events, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        double wait = send_what_is_due();
        struct timespec limit = {.tv_sec = (time_t)wait, .tv_nsec = fmod(wait, 1) * 1e9};
        int n = epoll_pwait2(events, ready, BATCH, wait < 0 ? NULL : &limit, NULL);
        for (int i = 0; i < n; i++) {
            struct link *c = ready[i].data.ptr;
            if (c == NULL) {
                accept_all(listener);
                continue;
            }
            if (ready[i].events & EPOLLOUT)
                proceed(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
    }
}
