# SPDX-License-Identifier: GPL-2.0-or-later
package Lonc;

# Requests through lonc for mod_perl, with lonnet's functions reply and critical.
#
#   Lonc->configure('/home/httpd/sockets', '/home/httpd/perl/logs/lonnet.perm.log');
#   my $answer = Lonc::reply('ping', 'msul2');             # lond's line, or con_lost
#   my $result = Lonc::critical('put:msu:ada:x', 'msul2'); # or con_delayed, con_failed
#
# A process keeps one connection for each host. httpd.conf beside this file loads it.

use strict;
use warnings;
use Fcntl qw(O_APPEND O_CREAT O_EXCL O_WRONLY);
use IO::Handle;
use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(sleep time);

our $TIMEOUT = 30;    # seconds for a reply
my ($directory, $perm_log) = ('/home/httpd/sockets', '');
my %connections;
my ($owner, $count) = (0, 0);

sub configure {
    (undef, $directory, $perm_log) = @_;
    return;
}

# Send a request line to a host; return lond's reply line, or con_lost.
sub reply {
    my ($request, $host) = @_;
    return 'con_lost' if $request =~ /\n/ || $host =~ m{/|^\.};
    if ($owner != $$) {    # forked: the connections are the parent's
        %connections = ();
        $owner = $$;
    }
    local $SIG{PIPE} = 'IGNORE';
    my $kept = $connections{$host};
    if ($kept && IO::Select->new($kept)->can_read(0)) {    # lonc has closed it meanwhile
        delete $connections{$host};
        undef $kept;
    }
    my $socket = $kept || _connect($host) || return 'con_lost';
    $socket->syswrite("$request\n") or return _lost($host);
    $connections{$host} = $socket;
    my ($line, $deadline) = ('', time + $TIMEOUT);
    while ($line !~ /\n\z/) {
        my $left = $deadline - time;
        return _lost($host) if $left <= 0 || !IO::Select->new($socket)->can_read($left);
        $socket->sysread($line, 65536, length $line) or return _lost($host);
    }
    chomp $line;
    return $line;
}

# Send a request that must not get lost: what cannot be sent now is saved for later.
sub critical {
    my ($request, $host) = @_;
    my $answer = reply($request, $host);
    return $answer if $answer ne 'con_lost';
    reply('reset_retries', $host);    # a new attempt at once, as reconlonc asks for
    sleep 0.2;
    $answer = reply($request, $host);
    return $answer if $answer ne 'con_lost';
    my $saved = _save($request, $host);
    _record($saved ? 'D' : 'F', $request, $host);
    return $saved ? 'con_delayed' : 'con_failed';
}

# lonc has one socket for each host; at its start and end there is none for a moment.
sub _connect {
    my ($host) = @_;
    for (1 .. 20) {
        my $socket = IO::Socket::UNIX->new(Peer => "$directory/$host", Type => SOCK_STREAM);
        return $socket if $socket;
        sleep 0.1;
    }
    return;
}

sub _lost {
    my ($host) = @_;
    delete $connections{$host};
    return 'con_lost';
}

# Write the file under a name that lonc skips, then rename it: lonc never sees a part of it.
sub _save {
    my ($request, $host) = @_;
    my ($middle) = ($request =~ s/\W//gr) =~ /^(.{0,16})/s;
    my $name = join '.', int time, ++$count, $$, $middle || 'x', $host;
    my $new = "$directory/delayed/.new.$name";
    sysopen(my $file, $new, O_WRONLY | O_CREAT | O_EXCL, 0600) or return 0;
    my @place = stat "$directory/delayed";
    if ($place[4] != $>) {    # lonc is another user: its group reads the file
        chown -1, $place[5], $file;
        chmod 0640, $file if (stat $file)[5] == $place[5];
    }
    my $done = print({$file} "$request\n") && $file->flush && $file->sync && close $file;
    return 1 if $done && rename $new, "$directory/delayed/$name";
    unlink $new;
    return 0;
}

sub _record {
    my ($code, $request, $host) = @_;
    return unless $perm_log;
    $request =~ s/^((?:sethost:[^:]*:)?encrypt:\w{0,32}).*/$1/s;    # not what is to be secret
    sysopen(my $file, $perm_log, O_WRONLY | O_APPEND | O_CREAT, 0660) or return;
    syswrite $file, join(':', int time, $code, $host, $request, scalar localtime) . "\n";
    return;
}

1;
