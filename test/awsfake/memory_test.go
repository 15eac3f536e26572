package awsfake_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

// inMemory makes a client reach the server without a socket.
func inMemory(s *awsfake.Server) func(*ssm.Options) {
	return func(o *ssm.Options) { o.HTTPClient = &http.Client{Transport: s.RoundTripper()} }
}

func TestAServerInMemoryAnswersLikeOneOnLoopback(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", strings.Repeat("1", 3000))
	answer := func(transport http.RoundTripper) (head http.Response) {
		t.Helper()
		client := ssmClient(s, func(o *ssm.Options) { o.HTTPClient = tap{transport, &head} })
		if value, err := get(t, client, "/a"); len(value) != 3000 {
			t.Fatal(err)
		}
		return head
	}
	real, memory := answer(http.DefaultTransport), answer(s.RoundTripper())
	if real.Status != memory.Status || real.ContentLength != memory.ContentLength || real.Proto != memory.Proto {
		t.Errorf("loopback: %v, in memory: %v", real, memory)
	}
	for _, header := range []http.Header{real.Header, memory.Header} {
		if header.Get("X-Amzn-Requestid") == "" || header.Get("Date") == "" {
			t.Errorf("header: %v", header)
		}
		header.Del("X-Amzn-Requestid")
		header.Del("Date")
	}
	if diff := cmp.Diff(real.Header, memory.Header); diff != "" {
		t.Error(diff)
	}
}

// tap is a client that also keeps what came before the body.
type tap struct {
	transport http.RoundTripper
	head      *http.Response
}

func (c tap) Do(r *http.Request) (*http.Response, error) {
	response, err := (&http.Client{Transport: c.transport}).Do(r)
	if err == nil {
		*c.head = *response
		c.head.Body = nil
	}
	return response, err
}

func TestVirtualTimePassesInMemoryOnlyByFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault awsfake.Fault
		want  time.Duration
	}{
		{"no fault", awsfake.Before(func() {}), 0},
		{"latency", awsfake.Latency(time.Minute), time.Minute},
		{"a slow body", awsfake.SlowBody(time.Minute), time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := awsfake.InMemory()
				s.PutParameter("/a", "1")
				s.FailAlways("GetParameter", test.fault)
				start := time.Now()
				if value, err := get(t, ssmClient(s, inMemory(s)), "/a"); value != "1" {
					t.Error(err)
				}
				if took := time.Since(start); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
			})
		})
	}
}

// That nothing stays behind is synctest's to say: it fails a test whose goroutines do not end.
func TestConnectionsInMemoryBreakToo(t *testing.T) {
	tests := []struct {
		name string
		do   func(*awsfake.Server)
		want error
		took time.Duration
	}{
		{"reset", func(s *awsfake.Server) { s.FailAlways(awsfake.Any, awsfake.Reset) }, syscall.ECONNRESET, 0},
		{"cut off", func(s *awsfake.Server) { s.FailAlways(awsfake.Any, awsfake.TruncatedBody) }, io.ErrUnexpectedEOF, 0},
		{"refused", (*awsfake.Server).Down, syscall.ECONNREFUSED, 0},
		{"no answer", func(s *awsfake.Server) { s.FailAlways(awsfake.Any, awsfake.Hang) }, context.DeadlineExceeded, time.Minute},
		{"an answer too late", func(s *awsfake.Server) { s.FailAlways(awsfake.Any, awsfake.Latency(time.Hour)) }, context.DeadlineExceeded, time.Minute},
		{"a body too slow", func(s *awsfake.Server) { s.FailAlways(awsfake.Any, awsfake.SlowBody(time.Hour)) }, context.DeadlineExceeded, time.Minute},
		{"no answer, and then down", func(s *awsfake.Server) {
			s.FailAlways(awsfake.Any, awsfake.Hang)
			time.AfterFunc(time.Second, s.Down)
		}, syscall.ECONNRESET, time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := awsfake.InMemory()
				s.PutParameter("/a", "1")
				test.do(s)
				client, start := ssmClient(s, inMemory(s)), time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/a")})
				if took := time.Since(start); !errors.Is(err, test.want) || took != test.took {
					t.Errorf("got %v after %v, want %v after %v", err, took, test.want, test.took)
				}
				s.Heal()
				s.Up()
				if value, err := get(t, client, "/a"); value != "1" {
					t.Errorf("healed: %v", err)
				}
			})
		})
	}
}

func TestAServerOnLoopbackIsReachedInVirtualTimeToo(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	synctest.Test(t, func(t *testing.T) {
		if value, err := get(t, ssmClient(s, inMemory(s)), "/a"); value != "1" {
			t.Error(err)
		}
	})
	if value, err := get(t, ssmClient(s), "/a"); value != "1" {
		t.Error(err)
	}
}

func TestARequestInMemoryIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := awsfake.InMemory()
		go func() {
			time.Sleep(time.Hour)
			get(t, ssmClient(s, inMemory(s)), "/a")
		}()
		start := time.Now()
		if _, err := s.WaitForRequest(t.Context(), "GetParameter"); err != nil || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
