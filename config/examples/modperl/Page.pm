# SPDX-License-Identifier: GPL-2.0-or-later
package Page;

# A mod_perl handler: /reply/HOST?REQUEST and /critical/HOST?REQUEST show lond's answer.

use strict;
use warnings;
use Apache2::Const -compile => qw(OK NOT_FOUND);
use Apache2::RequestIO ();
use Apache2::RequestRec ();
use Apache2::RequestUtil ();
use Lonc ();

sub handler {
    my ($r) = @_;
    my ($function, $host) = $r->uri =~ m{^/(reply|critical)/([\w.-]+)$} or return Apache2::Const::NOT_FOUND;
    Lonc->configure(map { $r->dir_config($_) } qw(lonSockDir lonPermLog));
    my $request = $r->args // '';
    $request =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    my $answer = $function eq 'reply' ? Lonc::reply($request, $host) : Lonc::critical($request, $host);
    $answer = 'saved for later' if $answer eq 'con_delayed';
    $r->content_type('text/plain');
    $r->print("$answer\n");
    return Apache2::Const::OK;
}

1;
